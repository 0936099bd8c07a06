"""The objectives of networks: which records they accept, the targets of their outputs, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int, ...]
Tensors = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps outputs [rows, ...] and targets [rows, ...] to losses [rows]; each loss depends only on its own row."""


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each record's cross entropy [rows], from logits [rows, (steps,) classes] and labels [rows, (steps)].

    For records with steps, it is the mean over the steps.
    """
    losses = nn.functional.cross_entropy(outputs.movedim(-1, 1), labels, reduction="none")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return each record's mean squared error [rows], from outputs and targets [rows, ...]."""
    return (outputs - targets.view_as(outputs)).square().flatten(1).mean(1)


def discrimination_loss(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Return the discriminator's loss [rows], from logits [rows, 2] that the record and the generated one are real.

    It is the mean of the two binary cross entropies; targets are ignored.
    Reference: Goodfellow et al. 2014, equation 1.
    """
    real, generated = outputs.unbind(1)
    return (nn.functional.softplus(-real) + nn.functional.softplus(generated)) / 2


@dataclass(frozen=True)
class Objective:
    """The task that a network learns.

    `name` is the task; `records` describes the records it accepts. `takes(features, labels)` returns whether they are
    of that kind. `known(features, labels, classes)` returns which rows, bool [rows], use only these classes.
    `targets(features, labels)` returns what the outputs are compared with. `example(shape, classes, rows)` returns
    invented features and labels.
    """

    name: str
    records: str
    loss: Loss
    takes: Callable[[torch.Tensor, torch.Tensor], bool]
    known: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    targets: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    example: Callable[[Shape, int, int], Tensors]


def _within(numbers: torch.Tensor, classes: int) -> torch.Tensor:
    return ((numbers >= 0) & (numbers < classes)).flatten(1).all(1)


def _all(features: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.ones(len(features), dtype=torch.bool, device=features.device)


def _classified(shape: Shape, classes: int, rows: int) -> Tensors:
    return _numbers(rows, *shape), torch.arange(rows).clamp(max=classes - 1)


def _tokens(shape: Shape, classes: int, rows: int) -> Tensors:
    tokens = torch.arange(rows).clamp(max=classes - 1)[:, None].expand(rows, *shape)
    return tokens.clone(), tokens.clone()


def _predicted(shape: Shape, classes: int, rows: int) -> Tensors:
    return _numbers(rows, *shape), _numbers(rows)


def _numbers(*shape: int) -> torch.Tensor:
    """Return distinct float32 numbers around zero."""
    numbers = torch.arange(math.prod(shape), dtype=torch.float32)
    return torch.sin(numbers + 1.0).view(shape)


def _is_number(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point()


CLASSIFICATION = Objective(
    "classification",
    "numbers with one label per record",
    cross_entropy,
    takes=lambda features, labels: _is_number(features) and not _is_number(labels) and labels.dim() == 1,
    known=lambda features, labels, classes: _within(labels[:, None], classes),
    targets=lambda features, labels: labels,
    example=_classified,
)
NEXT_TOKEN = Objective(
    "next token",
    "token sequences with a label at every step",
    cross_entropy,
    takes=lambda features, labels: not _is_number(features) and labels.shape == features.shape,
    known=lambda features, labels, classes: _within(features, classes) & _within(labels, classes),
    targets=lambda features, labels: labels,
    example=_tokens,
)
REGRESSION = Objective(
    "regression",
    "numbers with one number per record to predict",
    squared_error,
    takes=lambda features, labels: _is_number(features) and labels.dim() == 1,
    known=_all,
    targets=lambda features, labels: labels.to(features.dtype),
    example=_predicted,
)
RECONSTRUCTION = Objective(
    "reconstruction",
    "numbers; labels are ignored",
    squared_error,
    takes=lambda features, labels: _is_number(features),
    known=_all,
    targets=lambda features, labels: features,
    example=_classified,
)
GENERATION = Objective(
    "generation",
    "numbers; labels are ignored",
    discrimination_loss,
    takes=lambda features, labels: _is_number(features),
    known=_all,
    targets=lambda features, labels: labels,
    example=_classified,
)
