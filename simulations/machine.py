"""Process settings for many small training steps."""

from __future__ import annotations

import ctypes
import sys

import torch

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
