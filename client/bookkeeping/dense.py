"""The rule for nn.Linear, at one position or at many."""

from __future__ import annotations

import torch
from torch import nn

from .matrix import MatrixUse
from .outer import OuterProducts
from .taps import LayerWatch


def watch_linear(layer: nn.Linear) -> LayerWatch:
    """Watch a linear layer on inputs [rows, ..., features]: whatever lies between is positions."""
    return LayerWatch(layer, _run, _use)


def _run(layer: nn.Linear, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    bias = None if layer.bias is None else layer.bias.detach()
    return nn.functional.linear(inputs, layer.weight.detach(), bias), inputs.detach()


def _use(layer: nn.Linear, inputs: torch.Tensor, gradient: torch.Tensor) -> MatrixUse:
    products = OuterProducts(_positions(inputs), _positions(gradient))
    return MatrixUse(layer, products, gradient.flatten(1, -2) if gradient.dim() > 2 else gradient[:, None])


def _positions(vectors: torch.Tensor) -> torch.Tensor:
    """Return [rows, ..., width] as [rows, 1, positions, width]."""
    return vectors.reshape(len(vectors), 1, -1, vectors.shape[-1])
