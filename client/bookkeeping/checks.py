"""The last line: a network's records must be apart, and its rules right, on a small random batch.

It runs once, on a copy with random parameters in float64, and sees nothing of the data but its shape: it tells what
no list of layers can, such as a mean over the batch written by hand.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from ...models.objectives import Loss
from ...privacy import PlanError
from .clipping import norms_of
from .watching import losses_of, uses_of, watching

TOLERANCE = 1e-6
"""Largest relative difference of what should be equal in float64."""

Pairs = dict[str, torch.Tensor]


def check_model(model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse a network whose records are not apart, or whose per-record gradients the rules do not give.

    Raises:
        PlanError: a record changes another's gradient, or the rules' gradient is not that of autograd.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        trial = _Trial(model, loss, features, labels)
        trial.check_apart()
        trial.check_rules()


class _Trial:
    """A copy of the network and a batch of as few records as no other dimension has."""

    def __init__(self, model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> None:
        self.model, self.loss = _random_copy(model), loss
        sizes = {*features.shape[1:], *labels.shape[1:]}
        self.rows = next(rows for rows in range(3, 3 + len(sizes) + 1) if rows not in sizes)
        self.features = _random(features, self.rows)
        self.labels = torch.zeros(self.rows, *labels.shape[1:], dtype=labels.dtype)

    def check_apart(self) -> None:
        """Refuse if other records beside it change the first one's gradient, in training."""
        self.model.train()
        others = torch.cat([self.features[:1], _random(self.features, self.rows - 1)])
        if not _alike(self._gradient(self.features, 0), self._gradient(others, 0)):
            raise PlanError(
                "the network mixes records: one changes another's gradient", "let it treat every record by itself"
            )

    def check_rules(self) -> None:
        """Refuse if the rules' gradient of a record or its norm is not what autograd gives."""
        self.model.eval()
        with watching(self.model) as watches:
            uses = uses_of(self.model, self.loss, watches, self.features, self.labels, self.rows)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        norms = norms_of([use.squared_norms() for use in uses], self.rows)
        for row in range(self.rows):
            chosen = torch.eye(self.rows, dtype=torch.float64)[row]
            found = {names[p]: part for use in uses for p, part in use.weighted(chosen)}
            norm = torch.stack([part.norm() for part in found.values()]).norm()
            same_norm = _alike({"norm": norms[row]}, {"norm": norm})
            if not (same_norm and _alike(found, self._gradient(self.features, row))):
                raise PlanError(
                    "the rules of book-keeping do not give this network's gradients",
                    "use parameters only in their own layers, and records only in the first dimension",
                )

    def _gradient(self, features: torch.Tensor, row: int) -> Pairs:
        """Return one record's gradient by autograd."""
        torch.manual_seed(1)  # the same dropout each time
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        one = losses_of(self.model, self.loss, features, self.labels)[row]
        gradients = torch.autograd.grad(one, list(named.values()), allow_unused=True)
        return {name: g for name, g in zip(named, gradients, strict=True) if g is not None}


def _random_copy(model: nn.Module) -> nn.Module:
    """Return a copy in float64 on the CPU, with random parameters of usual size."""
    made = copy.deepcopy(model).to("cpu", torch.float64)
    for parameter in made.parameters():
        bound = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 1.0
        nn.init.uniform_(parameter, -bound, bound)
    return made


def _random(features: torch.Tensor, rows: int) -> torch.Tensor:
    """Return random rows: float64 normal numbers, or where features are whole numbers zeros and ones."""
    shape = (rows, *features.shape[1:])
    if features.is_floating_point():
        return torch.randn(shape, dtype=torch.float64)
    return torch.randint(0, 2, shape, dtype=features.dtype)


def _alike(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two gradients are the same, up to rounding; what is missing is zero."""
    names = sorted({*one, *other})
    pairs = [(_or_zeros(one, other, name), _or_zeros(other, one, name)) for name in names]
    size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
    return all(float((a - b).norm()) <= TOLERANCE * size for a, b in pairs)


def _or_zeros(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return one[name] if name in one else torch.zeros_like(other[name])
