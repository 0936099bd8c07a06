"""What makes a record's gradient independent of the batch that it is in, to the last bit (batch invariance).

Otherwise a record that comes or goes would change the gradients of others, beyond what its own clip bounds.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from .errors import ClippingError

ROW_MULTIPLE = 32
"""The number of rows is a multiple of this. Functions such as exp work on up to 32 numbers at a time, and in another
way, with other last bits, on those that are left over."""

SMALL_PRODUCT = 1 << 17
"""Multiplications of a matrix product up to which numpy runs a time loop: a call of torch takes longer than so small
a product, and numpy's BLAS, which may have threads of its own, computes it on one."""


@contextmanager
def batch_invariant(device: torch.device) -> Iterator[None]:
    """Work on one thread, and with fresh random numbers.

    Several threads divide the numbers of a batch regardless of rows; what is left over at the end of a thread's part
    has other last bits, as with `ROW_MULTIPLE`.
    """
    threads = torch.get_num_threads()
    with fresh_randomness(device):
        if threads > 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if threads > 1:
                torch.set_num_threads(threads)


@contextmanager
def fresh_randomness(device: torch.device) -> Iterator[None]:
    """Work with random numbers seeded from the operating system's entropy; restore torch's generators at the end.

    Dropout is drawn row by row. If it were known, or the same in every sum, a record that comes or goes would change
    the others' gradients by shifting their draws. Drawn from secret entropy, it has the same law for every record.
    """
    seed, generators = secrets.randbits(63), [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    for (
        generator
    ) in generators:  # torch.manual_seed would also store the seed for kinds of devices that are not there
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def batch_invariant_rows(rows: int) -> int:
    """Return the least number of rows, `rows` at least, whose equal rows this machine's CPU treats alike.

    Raises:
        ClippingError: there is none.
    """
    multiple = _row_multiple()
    return -(-rows // multiple) * multiple


@cache
def _row_multiple() -> int:
    """Return the multiple that rows come in: some kernels take 6 at a time, and those left over in another way."""
    for multiple in (ROW_MULTIPLE, 3 * ROW_MULTIPLE):
        if all(_treats_rows_alike(times * multiple) for times in (1, 2, 3, 5, 7)):
            return multiple
    raise ClippingError("matrix products of this CPU do not treat equal rows alike", "train on another machine")


def _treats_rows_alike(rows: int) -> bool:
    """Return whether products of equal rows are equal to the last bit: torch's, and numpy's small ones."""
    with batch_invariant(torch.device("cpu")), torch.no_grad():
        for inputs in (2, 17, 32, 64, 257):
            row = torch.rand(1, inputs).expand(rows, inputs).contiguous()
            factors = [torch.rand(inputs, outputs) for outputs in (1, 3, 10, 32, 64, 257)]
            products = [row @ factor for factor in factors]
            small = [factor for factor in factors if rows * factor.numel() <= SMALL_PRODUCT]
            products += [torch.from_numpy(np.dot(row.numpy(), factor.numpy())) for factor in small]
            if not all(torch.equal(each, each[:1].expand_as(each)) for each in products):
                return False
    return True
