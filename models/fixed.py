"""Networks whose first part is fixed and public: nothing of it is trained, clipped, noised or sent."""

from __future__ import annotations

import torch
from torch import nn

ROWS = 16
"""The number of records in a pass of the fixed part. It is constant, so that all passes round in the same way."""


class FixedFeatures(nn.Module):
    """A network in two parts: `fixed`, a public function of one record, and `trained`, which sees its features.

    `fixed` has no parameters, and the features of a record depend on that record alone: `check_fixed` refuses others.
    Its buffers are not persistent: they are computed from the shape of a record, so a model file does not hold them.
    A device computes a record's features once and keeps them, so that a step costs what its trained part costs.

    Reference: Tramer and Boneh 2021, section 2.
    """

    def __init__(self, fixed: nn.Module, trained: nn.Module) -> None:
        super().__init__()
        self.fixed, self.trained = fixed, trained

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the trained part, for records [rows, *shape]."""
        return self.trained(self.fixed(records))


def parts_of(model: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Return a network's fixed part (in evaluation mode, or None without such a part) and its trained part."""
    return (model.fixed.eval(), model.trained) if isinstance(model, FixedFeatures) else (None, model)


@torch.no_grad()
def check_fixed(fixed: nn.Module | None, like: torch.Tensor) -> None:
    """Refuse a fixed part that has parameters, or in which a record's features depend on more than that record.

    It is tried on random records of the shape and dtype of `like` [any, *shape]. The clipped gradient of a record
    bounds what this record adds to a sum only if no other record sees it.

    Raises:
        ValueError: the fixed part must not be used.
    """
    if fixed is None:
        return
    if any(True for _ in fixed.parameters()):
        raise ValueError("its fixed part has parameters, which nothing would train: use buffers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        records, others = _random(like), _random(like)
    found = features_of(fixed, records)
    last = ROWS - 1
    for other in (others, *([torch.full_like(others, bad) for bad in _ODD] if like.is_floating_point() else [])):
        other[0], other[last] = records[last], records[0]
        moved = features_of(fixed, other)
        if len(moved) != ROWS or not (_same(moved[0], found[last]) and _same(moved[last], found[0])):
            raise ValueError("its fixed part mixes records, or is random: features may depend on their record alone")


_ODD = (float("nan"), float("inf"))


def _random(like: torch.Tensor) -> torch.Tensor:
    shape = ROWS, *like.shape[1:]
    if like.is_floating_point():
        return torch.randn(shape, dtype=like.dtype).to(like.device)
    return torch.randint(0, 2 if bool(like.any()) else 1, shape, dtype=like.dtype).to(like.device)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


@torch.no_grad()
def features_of(fixed: nn.Module | None, records: torch.Tensor) -> torch.Tensor:
    """Return the features of records [N, *shape] on their own device; the records themselves without a fixed part.

    All passes have `ROWS` rows, the last one padded with zeros. So the features of a record depend on that record
    alone, bit for bit.
    """
    if fixed is None:
        return records
    if not len(records):
        return fixed(records.new_zeros(ROWS, *records.shape[1:]))[:0]
    return torch.cat([_padded(fixed, part) for part in records.split(ROWS)])


def _padded(fixed: nn.Module, part: torch.Tensor) -> torch.Tensor:
    blank = part.new_zeros(ROWS - len(part), *part.shape[1:])
    return fixed(torch.cat([part, blank]))[: len(part)]
