"""The rule for nn.Linear, for inputs with one position or many in each record."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import ActivationRule, PerExampleGradients, detached
from .outer_product import MatrixGradients, OuterProducts, affine_gradients, is_instantiated


class LinearRule(ActivationRule):
    """Linear layers on inputs [rows, ..., features]. The dimensions in the middle are positions."""

    kinds = (nn.Linear,)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs [rows, ..., outputs], and the inputs."""
        weight, bias = self.layer.weight.detach(), detached(self.layer.bias)
        return nn.functional.linear(inputs, weight, bias), inputs.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of weight and bias."""
        return linear_gradients(self.layer, activation, output_gradient)


def linear_gradients(layer: Any, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
    """Return a linear layer's gradients from the activation [rows, ..., features] and the output gradient."""
    inputs, gradient = (
        vectors.reshape(len(vectors), -1, vectors.shape[-1]) for vectors in (activation, output_gradient)
    )
    if is_instantiated(inputs.shape[1], 1, layer.in_features + 1, layer.out_features):
        return affine_gradients(gradient, [(layer.weight, inputs)], [] if layer.bias is None else [layer.bias])
    return MatrixGradients(layer, OuterProducts(inputs[:, None], gradient[:, None]), gradient)
