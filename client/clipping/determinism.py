"""Batch invariance: a record's gradient is the same to the last bit in every batch.

Without it, adding or removing a record would change other records' gradients, which its own clip does not bound.
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
"""The number of rows is a multiple of this. Functions such as exp process up to 32 numbers at a time, and use other
code, with other last bits, for the remainder."""

SMALL_PRODUCT = 1 << 17
"""The largest matrix product, in multiplications, for which numpy runs a time loop. A call of torch takes longer than
such a product. numpy's BLAS may have threads of its own, but computes such a product on one thread."""


@contextmanager
def batch_invariant(device: torch.device) -> Iterator[None]:
    """Run the block on one thread and with fresh random numbers.

    Several threads would divide a batch without regard to rows, and the remainder of each thread's part would have
    other last bits, as explained at `ROW_MULTIPLE`.
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
    """Run the block with random numbers seeded from the operating system's entropy; then restore torch's generators.

    Dropout is drawn row by row, so an added or removed record shifts the draws of other records. If the draws were
    known, or the same in every sum, this would change the other gradients. Drawn from secret entropy, dropout has the
    same distribution for every record.
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
    """Return the least number of rows, at least `rows`, for which this machine's CPU treats equal rows alike.

    Raises:
        ClippingError: there is no such number.
    """
    multiple = _row_multiple()
    return -(-rows // multiple) * multiple


@cache
def _row_multiple() -> int:
    """Return the number that divides every number of rows. Some kernels process 6 rows at a time."""
    for multiple in (ROW_MULTIPLE, 3 * ROW_MULTIPLE):
        if all(_treats_rows_alike(times * multiple) for times in (1, 2, 3, 5, 7)):
            return multiple
    raise ClippingError("matrix products of this CPU do not treat equal rows alike", "train on another machine")


def _treats_rows_alike(rows: int) -> bool:
    """Return whether matrix products of equal rows are equal to the last bit, in torch and, if small, in numpy."""
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
