"""What makes a record's gradient the same wherever it stands in a batch, so that no other's coming moves it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import torch

GRAIN = 32
"""Rows of a batch come in multiples of this: functions such as exp work on up to 32 numbers at a time, and on what is
left over by itself, to other last bits."""


@contextmanager
def steady(device: torch.device) -> Iterator[None]:
    """Work on one thread, and with random numbers of our own.

    Threads share out the numbers of a batch regardless of rows, and what is left over at the end of a thread's part
    has other last bits, as in `GRAIN`. Dropout is drawn row by row: were it known, or the same in every sum, then a
    record that comes or goes would change the others' by shifting them. Drawn from the operating system's entropy
    and told to nobody, it is as likely for any record as for any other.
    """
    threads, seed = torch.get_num_threads(), secrets.randbits(63)
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    for generator in generators:  # torch.manual_seed also keeps a note for each kind of device that is not there
        generator.manual_seed(seed)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
