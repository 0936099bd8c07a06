"""The last layer together with the cross entropy of its outputs, whose gradient is known without a loss.

Over a large vocabulary this is nine tenths of a language model's step. There logits of one record at a time stay in
cache and turn into their own gradient, and each record's gradient of the weight is made at the rate of one matrix
product, in the layout that the product likes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...models.objectives import Loss, cross_entropy
from .fast_sequential import is_plain
from .hooks import squared_norms, weighted
from .layers.linear import use_linear
from .layers.outer_product import LARGEST
from .layers.registry import Use

LEAST = 1 << 15
"""Logits of one record from which on records are treated one by one."""


class HeadUse:
    """One use of the head: `each` [rows, 1 + inputs, classes] holds every record's gradient of weight and bias."""

    def __init__(self, layer: nn.Linear, each: torch.Tensor, squares: torch.Tensor) -> None:
        self._parameters = list(layer.parameters())
        self._each, self._squares = each, squares

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._squares

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squared norms, float64 [rows]: steps are summed already."""
        return self._squares

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return weight and bias with their weighted sums."""
        both = weighted(self._each, factors)
        weight, bias = self._parameters
        return [(weight, both[1:].t().contiguous()), (bias, both[0].clone())]


def has_head(model: Any, loss: Loss, steps: tuple[int, ...]) -> bool:
    """Return whether the network ends in a head of which `use_head` makes the cross entropy, or its mean over steps.

    `steps` is the shape of one record's labels. It depends on shapes and kinds of layers alone.
    """
    if loss is not cross_entropy or len(steps) > 1 or not is_plain(model, nn.Sequential) or not len(model):
        return False
    layer = model[-1]
    return is_plain(layer, nn.Linear) and all(p is not None and p.requires_grad for p in (layer.weight, layer.bias))


def use_head(layer: nn.Linear, inputs: torch.Tensor, labels: torch.Tensor, count: int) -> tuple[Use, torch.Tensor]:
    """Return the head's use in the losses of the first `count` records, and d losses / d inputs.

    Inputs [rows, (steps,) inputs], labels int64 [rows, (steps)]; a record's loss is its cross entropy, the mean over
    steps.
    """
    if labels.dim() > 1 and _is_large(layer, labels.shape[1]):
        return _one_by_one(layer, inputs, labels, count)
    gradient = torch.softmax(nn.functional.linear(inputs, layer.weight.detach(), layer.bias.detach()), dim=-1)
    gradient.scatter_add_(-1, labels[..., None], gradient.new_full((*labels.shape, 1), -1.0))
    if labels.dim() > 1:
        gradient.div_(labels.shape[1])
    if count < len(gradient):
        gradient[count:] = 0.0
    return use_linear(layer, inputs, gradient), gradient @ layer.weight.detach()


def _is_large(layer: nn.Linear, steps: int) -> bool:
    large = steps * layer.out_features >= LEAST
    return large and (layer.in_features + 1) * layer.out_features <= LARGEST


def _one_by_one(
    layer: nn.Linear, inputs: torch.Tensor, labels: torch.Tensor, count: int
) -> tuple[HeadUse, torch.Tensor]:
    """Return what `use_head` does; each record is treated by itself, with the same shapes."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    table = torch.cat([bias[None], weight.t()])
    each = weight.new_empty(len(inputs), *table.shape)
    squares = torch.zeros(len(inputs), dtype=torch.float64, device=weight.device)
    gradient = torch.zeros_like(inputs)
    row_of = _row(table, weight, steps=inputs.shape[1])
    for row in range(count):
        row_of(inputs[row], labels[row], each[row], gradient[row])
        squares[row] = squared_norms(each[row : row + 1])[0]
    each[count:] = 0.0
    return HeadUse(layer, each, squares), gradient


def _row(table: torch.Tensor, weight: torch.Tensor, steps: int) -> Callable[..., None]:
    """Return a function that makes one record's gradients, of `table` [1 + inputs, classes] and of the inputs.

    With s = softmax(x W^T + b), that of the loss by the logits is (s - one hot) / steps. What s is divided by is
    put on the smaller factors, so the logits are passed over only to find their largest, for exp, and for the sum.
    """
    logits = table.new_empty(steps, table.shape[1])

    def row(inputs: torch.Tensor, labels: torch.Tensor, of_table: torch.Tensor, of_inputs: torch.Tensor) -> None:
        wide = torch.cat([inputs.new_ones(steps, 1), inputs], dim=1)
        torch.mm(wide, table, out=logits)
        logits.sub_(logits.amax(1, keepdim=True)).exp_()
        share = 1 / (steps * logits.sum(1, keepdim=True))
        torch.mm((wide * share).t(), logits, out=of_table)
        of_table.index_add_(1, labels, wide.t(), alpha=-1 / steps)
        torch.mm(logits, weight, out=of_inputs)
        of_inputs.mul_(share).sub_(weight[labels], alpha=1 / steps)

    return row
