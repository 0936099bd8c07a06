"""Networks whose first part is fixed and public: nothing of it is trained, clipped, noised or sent."""

from __future__ import annotations

import torch
from torch import nn

ROWS = 16
"""The number of records in a pass of the fixed part. It never changes, so that all passes round alike."""


class FixedFeatures(nn.Module):
    """A network in two parts: `fixed`, a public function of one record, and `trained`, which sees its features.

    `fixed` has no parameters. Its buffers are not persistent: they are computed from the shape of a record, so a
    model file does not hold them. A device computes a record's features once and keeps them, so that a step costs
    what its trained part costs.

    Reference: Tramer and Boneh 2021, section 2.
    """

    def __init__(self, fixed: nn.Module, trained: nn.Module) -> None:
        super().__init__()
        self.fixed, self.trained = fixed, trained

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the trained part, for records [rows, *shape]."""
        return self.trained(self.fixed(records))


def parts_of(model: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Return the fixed part of a network, None if it has none, and the part that is trained."""
    return (model.fixed, model.trained) if isinstance(model, FixedFeatures) else (None, model)


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
