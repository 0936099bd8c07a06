"""The machine, set up for many small trainings."""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM, MMAP = 1 << 30, 1 << 25


def settle() -> None:
    """Give torch one thread, and have glibc keep freed memory.

    A client's batch is too small for two threads to help, and waiting for the second one makes a round ten times
    slower when another program wants the core. Blocks that are kept save a page fault for each page of the next
    batch: per-example gradients are clipped 1.5 to 3 times faster.
    """
    torch.set_num_threads(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_THRESHOLD, MMAP)
            libc.mallopt(M_TRIM_THRESHOLD, TRIM)
