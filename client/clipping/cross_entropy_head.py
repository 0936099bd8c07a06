"""The last layer together with the cross entropy of its outputs, whose gradient has a closed form.

With a large vocabulary this takes nine tenths of a language model's step. Then records are computed one by one, so
that a record's logits stay in the cache. Their gradient overwrites them, and one matrix product, in its fastest
memory layout, computes the record's gradient of the weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...models.objectives import Loss, cross_entropy
from .fast_sequential import is_plain
from .layers.base import Pairs, PerExampleGradients
from .layers.instantiated import squared_row_norms, weighted_row_sum
from .layers.linear import linear_gradients
from .layers.outer_product import LARGEST_INSTANTIATED

MANY_LOGITS = 1 << 15
"""The number of logits of one record from which on records are computed one by one."""


class HeadGradients(PerExampleGradients):
    """The head's gradients, instantiated: `each` [rows, 1 + inputs, classes] holds bias and weight, in this order."""

    def __init__(self, layer: nn.Linear, each: torch.Tensor, squares: torch.Tensor) -> None:
        """Store the gradients and their squared norms, float64 [rows]."""
        self._parameters = list(layer.parameters())
        self._each, self._squares = each, squares

    def _squared_norms(self) -> torch.Tensor:
        return self._squares

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return weight and bias with the sums of the records' gradients times `factors` [rows]."""
        both = weighted_row_sum(self._each, factors)
        weight, bias = self._parameters
        return [(weight, both[1:].t().contiguous()), (bias, both[0].clone())]


def has_head(model: Any, loss: Loss, steps: tuple[int, ...]) -> bool:
    """Return whether the network ends in a linear layer under the cross entropy, or under its mean over steps.

    `steps` is the shape of one record's labels. The answer depends only on shapes and kinds of layers.
    """
    if loss is not cross_entropy or len(steps) > 1 or not is_plain(model, nn.Sequential) or not len(model):
        return False
    layer = model[-1]
    return is_plain(layer, nn.Linear) and all(p is not None and p.requires_grad for p in (layer.weight, layer.bias))


def head_gradients(
    layer: nn.Linear, inputs: torch.Tensor, labels: torch.Tensor, count: int
) -> tuple[PerExampleGradients, torch.Tensor]:
    """Return the head's gradients of the first `count` records' losses, and d losses / d inputs.

    Inputs are [rows, (steps,) inputs], labels int64 [rows, (steps)]. A record's loss is its cross entropy, averaged
    over steps.
    """
    if labels.dim() > 1 and _is_large(layer, labels.shape[1]):
        return _one_by_one(layer, inputs, labels, count)
    gradient = torch.softmax(nn.functional.linear(inputs, layer.weight.detach(), layer.bias.detach()), dim=-1)
    gradient.scatter_add_(-1, labels[..., None], gradient.new_full((*labels.shape, 1), -1.0))
    if labels.dim() > 1:
        gradient.div_(labels.shape[1])
    if count < len(gradient):
        gradient[count:] = 0.0
    return linear_gradients(layer, inputs, gradient), gradient @ layer.weight.detach()


def _is_large(layer: nn.Linear, steps: int) -> bool:
    large = steps * layer.out_features >= MANY_LOGITS
    return large and (layer.in_features + 1) * layer.out_features <= LARGEST_INSTANTIATED


def _one_by_one(
    layer: nn.Linear, inputs: torch.Tensor, labels: torch.Tensor, count: int
) -> tuple[HeadGradients, torch.Tensor]:
    """Return the same as `head_gradients`, computed record by record with the same shapes each time."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    table = torch.cat([bias[None], weight.t()])
    each = weight.new_empty(len(inputs), *table.shape)
    squares = torch.zeros(len(inputs), dtype=torch.float64, device=weight.device)
    gradient = torch.zeros_like(inputs)
    compute = _record_gradients(table, weight, steps=inputs.shape[1])
    for row in range(count):
        compute(inputs[row], labels[row], each[row], gradient[row])
        squares[row] = squared_row_norms(each[row : row + 1])[0]
    each[count:] = 0.0
    return HeadGradients(layer, each, squares), gradient


def _record_gradients(table: torch.Tensor, weight: torch.Tensor, steps: int) -> Callable[..., None]:
    """Return a function that writes one record's gradients of `table` [1 + inputs, classes] and of the inputs.

    With s = softmax(x W^T + b), the gradient of the loss by the logits is (s - one hot) / steps. The softmax's
    division is applied to the smaller factor of each product, so the logits are read only for their maximum, for exp
    and for their sum.
    """
    logits = table.new_empty(steps, table.shape[1])

    def compute(inputs: torch.Tensor, labels: torch.Tensor, of_table: torch.Tensor, of_inputs: torch.Tensor) -> None:
        wide = torch.cat([inputs.new_ones(steps, 1), inputs], dim=1)
        torch.mm(wide, table, out=logits)
        logits.sub_(logits.amax(1, keepdim=True)).exp_()
        share = 1 / (steps * logits.sum(1, keepdim=True))
        torch.mm((wide * share).t(), logits, out=of_table)
        of_table.index_add_(1, labels, wide.t(), alpha=-1 / steps)
        torch.mm(logits, weight, out=of_inputs)
        of_inputs.mul_(share).sub_(weight[labels], alpha=1 / steps)

    return compute
