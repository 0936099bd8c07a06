"""What makes a record's gradient the same wherever it stands in a batch, so that no other's coming moves it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from .errors import ClippingError

GRAIN = 32
"""Rows of a batch come in multiples of this: functions such as exp work on up to 32 numbers at a time, and on what is
left over by itself, to other last bits."""

SMALL = 1 << 17
"""Multiplications of a product up to which a time loop is numpy's: a call of torch's takes longer than so small a
product, and numpy's BLAS, which may have threads of its own, does it on one."""


@contextmanager
def steady(device: torch.device) -> Iterator[None]:
    """Work on one thread, and with random numbers of our own.

    Threads share out the numbers of a batch regardless of rows, and what is left over at the end of a thread's part
    has other last bits, as in `GRAIN`.
    """
    threads = torch.get_num_threads()
    with own_randomness(device):
        if threads > 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if threads > 1:
                torch.set_num_threads(threads)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Work with random numbers of our own, and leave torch's as they were, whatever happens.

    Dropout is drawn row by row: were it known, or the same in every sum, then a record that comes or goes would
    change the others' by shifting them. Drawn from the operating system's entropy and told to nobody, it is as likely
    for any record as for any other.
    """
    seed, generators = secrets.randbits(63), [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    for generator in generators:  # torch.manual_seed also keeps a note for each kind of device that is not there
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def steady_rows(rows: int) -> int:
    """Return the least number from `rows` on, a multiple of `GRAIN`, of rows that this machine's CPU treats alike.

    Raises:
        ClippingError: there is none.
    """
    grain = _grain()
    return -(-rows // grain) * grain


@cache
def _grain() -> int:
    """Return of what rows come in multiples: some kernels take 6 at a time, and those left to other last bits."""
    for grain in (GRAIN, 3 * GRAIN):
        if all(_alike(times * grain) for times in (1, 2, 3, 5, 7)):
            return grain
    raise ClippingError("matrix products of this CPU do not treat equal rows alike", "train on another machine")


def _alike(rows: int) -> bool:
    """Return whether products of equal rows have equal rows to the last bit: torch's, and numpy's small ones."""
    with steady(torch.device("cpu")), torch.no_grad():
        for inputs in (2, 17, 32, 64, 257):
            row = torch.rand(1, inputs).expand(rows, inputs).contiguous()
            factors = [torch.rand(inputs, outputs) for outputs in (1, 3, 10, 32, 64, 257)]
            products = [row @ factor for factor in factors]
            small = [factor for factor in factors if rows * factor.numel() <= SMALL]
            products += [torch.from_numpy(np.dot(row.numpy(), factor.numpy())) for factor in small]
            if not all(torch.equal(each, each[:1].expand_as(each)) for each in products):
                return False
    return True
