"""What training minimises: one number a record."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A function of outputs [rows, ...] and labels [rows, ...] to losses [rows], each of its own row alone."""


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each record's cross entropy [rows], from logits [rows, (steps,) classes] and labels [rows, (steps)].

    Where a record has steps, it is the mean over them.
    """
    losses = nn.functional.cross_entropy(outputs.movedim(-1, 1), labels, reduction="none")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses
