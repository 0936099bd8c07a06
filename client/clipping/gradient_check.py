"""A trial on a small random batch: no record may change another's gradient, and the rules must agree with autograd.

It runs once, on a copy of the network with random parameters in float64, and on made-up records. It finds faults that
a list of layers cannot find, such as a mean over the batch in the network's own forward.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ...models.objectives import Loss
from .clip import norms_and_bounds
from .errors import ClippingError
from .hooks import HookedNetwork, losses_of

TOLERANCE = 1e-6
"""The largest relative difference, in float64, between gradients that should be equal."""

Gradients = dict[str, torch.Tensor]
"""Tensors by the names of their parameters."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Features and labels of a batch."""


def check_gradients(model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse a network in which records are not independent, or for which the rules' per-example gradients are wrong.

    Raises:
        ClippingError: a record changes another's gradient, or the rules' gradient differs from autograd's.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        trial = _Trial(model, loss, features, labels)
        trial.check_independence()
        trial.check_rules()


class _Trial:
    """A copy of the network, and a small batch. The number of records differs from the sizes of other dimensions."""

    def __init__(self, model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> None:
        self.model, self.loss = _random_copy(model), loss
        self.features_like, self.labels_like = features, labels
        sizes = {*features.shape[1:], *labels.shape[1:]}
        self.rows = next(rows for rows in range(3, 3 + len(sizes) + 1) if rows not in sizes)
        self.features, self.labels = self._others()

    def _others(self) -> Batch:
        return _random(self.features_like, self.rows), _random(self.labels_like, self.rows)

    def check_independence(self) -> None:
        """Refuse the network if the first or last record's gradient depends on the other records or on its row.

        The other records are replaced in training mode, with the same dropout. The row is changed in evaluation
        mode, because dropout differs from row to row.
        """
        first, last = 0, self.rows - 1
        here = self.features, self.labels
        for row in (first, last):
            self.model.train()
            beside = self._put(row, row)
            self._compare(self._gradient(*here, row), self._gradient(*beside, row))
            self.model.eval()
            self._compare(self._gradient(*here, row), self._gradient(*self._put(row, last - row), last - row))

    def _put(self, row: int, place: int) -> Batch:
        """Return a batch of other records that holds this batch's record of row `row` in row `place`."""
        others = self._others()
        for ours, part in zip((self.features, self.labels), others, strict=True):
            part[place] = ours[row]
        return others

    def _compare(self, here: Gradients, there: Gradients) -> None:
        if not _alike(here, there):
            raise ClippingError(
                "the network mixes records: one changes another's gradient",
                "compute each record's output from that record alone",
            )

    def check_rules(self) -> None:
        """Refuse the network if a record's gradient or norm by the rules differs from autograd's, in training mode.

        Dropout layers, and dropout in recurrent layers and in attention, are switched off, because the rules draw it
        in another order.
        """
        self.model.train()
        for layer in self.model.modules():
            if isinstance(layer, (_DropoutNd, nn.RNNBase, nn.MultiheadAttention)):
                layer.eval()
        torch.manual_seed(1)
        with HookedNetwork(self.model) as hooked:
            layers = hooked.per_example_gradients(self.loss, self.features, self.labels, self.rows)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        norms, _ = norms_and_bounds(layers, self.rows)
        for row in range(self.rows):
            chosen = torch.eye(self.rows, dtype=torch.float64)[row]
            found = {names[p]: part for layer in layers for p, part in layer.weighted_sum(chosen)}
            norm = torch.stack([part.norm() for part in found.values()]).norm()
            same_norm = _alike({"norm": torch.as_tensor(norms[row])}, {"norm": norm})
            if not (same_norm and _alike(found, self._gradient(self.features, self.labels, row))):
                raise ClippingError(
                    "the rules of book-keeping do not give this network's gradients",
                    "use parameters only in their own layers and records only in the first dimension, or register "
                    "the module that uses them as a whole: register_rule(YourModule)",
                )

    def _gradient(self, features: torch.Tensor, labels: torch.Tensor, row: int) -> Gradients:
        """Return one record's gradient by autograd."""
        torch.manual_seed(1)  # the same dropout each time
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        one = losses_of(self.model, self.loss, features, labels)[row]
        gradients = torch.autograd.grad(one, list(named.values()), allow_unused=True)
        return {name: g for name, g in zip(named, gradients, strict=True) if g is not None}


def _random_copy(model: nn.Module) -> nn.Module:
    """Return a copy in float64 on the CPU, with random parameters of the usual size."""
    made = copy.deepcopy(model).to("cpu", torch.float64)
    for parameter in made.parameters():
        bound = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 1.0
        nn.init.uniform_(parameter, -bound, bound)
    return made


def _random(like: torch.Tensor, rows: int) -> torch.Tensor:
    """Return random rows: normal numbers in float64, or integers 0 and 1 (only 0 if `like` is zero)."""
    shape = (rows, *like.shape[1:])
    if like.is_floating_point():
        return torch.randn(shape, dtype=torch.float64)
    return torch.randint(0, 2 if bool(like.any()) else 1, shape, dtype=like.dtype)


def _alike(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two gradients are equal up to rounding. A missing parameter has gradient zero."""
    names = sorted({*one, *other})
    pairs = [(_or_zeros(one, other, name), _or_zeros(other, one, name)) for name in names]
    size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
    return all(float((a - b).norm()) <= TOLERANCE * size for a, b in pairs)


def _or_zeros(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return one[name] if name in one else torch.zeros_like(other[name])
