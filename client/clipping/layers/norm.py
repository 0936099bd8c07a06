"""The rules for nn.LayerNorm and nn.GroupNorm: scale and shift are small, so their gradients are instantiated."""

from __future__ import annotations

import torch
from torch import nn

from .base import ActivationRule, PerExampleGradients, detached
from .instantiated import InstantiatedGradients


class LayerNormRule(ActivationRule):
    """Layer norms on inputs [rows, ..., *normalized shape]."""

    kinds = (nn.LayerNorm,)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs of the inputs' shape, and the inputs."""
        layer = self.layer
        weight, bias = detached(layer.weight), detached(layer.bias)
        return nn.functional.layer_norm(inputs, layer.normalized_shape, weight, bias, layer.eps), inputs.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of scale and shift, summed over positions."""
        shape = tuple(self.layer.normalized_shape)
        normalized = nn.functional.layer_norm(activation, shape, None, None, self.layer.eps)
        of_scale = (output_gradient * normalized).reshape(len(activation), -1, *shape).sum(1)
        return _scale_and_shift(self.layer, of_scale, output_gradient.reshape(len(activation), -1, *shape).sum(1))


class GroupNormRule(ActivationRule):
    """Group norms on inputs [rows, channels, ...]."""

    kinds = (nn.GroupNorm,)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs of the inputs' shape, and the inputs."""
        layer = self.layer
        weight, bias = detached(layer.weight), detached(layer.bias)
        return nn.functional.group_norm(inputs, layer.num_groups, weight, bias, layer.eps), inputs.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of scale and shift, summed over positions."""
        normalized = nn.functional.group_norm(activation, self.layer.num_groups, None, None, self.layer.eps)
        shape = (len(activation), self.layer.num_channels, -1)
        of_scale = (output_gradient * normalized).reshape(shape).sum(2)
        return _scale_and_shift(self.layer, of_scale, output_gradient.reshape(shape).sum(2))


def _scale_and_shift(
    layer: nn.LayerNorm | nn.GroupNorm, of_scale: torch.Tensor, of_shift: torch.Tensor
) -> InstantiatedGradients:
    pairs = [(layer.weight, of_scale), (layer.bias, of_shift)]
    return InstantiatedGradients([(parameter, each) for parameter, each in pairs if parameter is not None])
