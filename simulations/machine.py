"""Process settings for many small training steps."""

from __future__ import annotations

import ctypes
import os
import re
import sys

import torch

from ..privacy.errors import PlanError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM, MMAP = 1 << 30, 1 << 25


def settle() -> None:
    """Limit torch to one thread, and let glibc keep freed memory.

    A client's batch is too small for a second thread to help, and waiting for that thread makes a round ten times
    slower on a busy machine. Memory that glibc keeps saves page faults in the next batch, which makes per-example
    gradients 1.5 to 3 times faster.
    """
    torch.set_num_threads(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_THRESHOLD, MMAP)
            libc.mallopt(M_TRIM_THRESHOLD, TRIM)


def choose_device(name: str) -> None:
    """Make this process, and those that it starts, train on `cpu`, `cuda` or `cuda:N`; `auto` prefers a GPU.

    Other GPUs are hidden, so this comes before the first use of one.

    Raises:
        PlanError: there is no such device.
    """
    if name == "auto":
        return
    if name != "cpu" and not re.fullmatch(r"cuda(:\d{1,3})?", name):
        raise PlanError(f"there is no device {name}", "use --device auto, cpu, cuda, or cuda:1")
    number = name.partition(":")[2]
    if name == "cpu" or number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    if name != "cpu" and not torch.cuda.is_available():
        raise PlanError(f"this machine has no device {name}, or torch cannot use it", "use --device cpu")
