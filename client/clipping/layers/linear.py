"""The rule for nn.Linear, at one position or at many."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..hooks import Each, LayerWatch
from .matrix import MatrixUse
from .outer_product import OuterProducts, is_made
from .over_time import OverTime, use_over_time


def watch_linear(layer: nn.Linear) -> LayerWatch:
    """Watch a linear layer on inputs [rows, ..., features]: whatever lies between is positions."""
    return LayerWatch(layer, _run, use_linear)


def _run(layer: nn.Linear, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    bias = None if layer.bias is None else layer.bias.detach()
    return nn.functional.linear(inputs, layer.weight.detach(), bias), inputs.detach()


def use_linear(layer: Any, inputs: torch.Tensor, gradient: torch.Tensor) -> MatrixUse | Each | OverTime:
    """Return the use of a linear layer on inputs [rows, ..., features], given its outputs' gradient."""
    inputs, gradient = (vectors.reshape(len(vectors), -1, vectors.shape[-1]) for vectors in (inputs, gradient))
    if is_made(inputs.shape[1], 1, layer.in_features + 1, layer.out_features):
        return use_over_time(gradient, [(layer.weight, inputs)], [] if layer.bias is None else [layer.bias])
    return MatrixUse(layer, OuterProducts(inputs[:, None], gradient[:, None]), gradient)
