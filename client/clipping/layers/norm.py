"""The rules for nn.LayerNorm and nn.GroupNorm: scale and shift are small, so each record's gradients are made."""

from __future__ import annotations

import torch
from torch import nn

from ..hooks import Each, LayerWatch


def watch_layer_norm(layer: nn.LayerNorm) -> LayerWatch:
    """Watch a layer norm on inputs [rows, ..., *normalized shape]."""
    return LayerWatch(layer, _run_layer_norm, _use_layer_norm)


def watch_group_norm(layer: nn.GroupNorm) -> LayerWatch:
    """Watch a group norm on inputs [rows, channels, ...]."""
    return LayerWatch(layer, _run_group_norm, _use_group_norm)


def _detached(layer: nn.LayerNorm | nn.GroupNorm) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    weight, bias = layer.weight, layer.bias
    return None if weight is None else weight.detach(), None if bias is None else bias.detach()


def _run_layer_norm(layer: nn.LayerNorm, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return nn.functional.layer_norm(inputs, layer.normalized_shape, *_detached(layer), layer.eps), inputs.detach()


def _use_layer_norm(layer: nn.LayerNorm, inputs: torch.Tensor, gradient: torch.Tensor) -> Each:
    shape = tuple(layer.normalized_shape)
    standard = nn.functional.layer_norm(inputs, shape, None, None, layer.eps)
    each = (gradient * standard).reshape(len(inputs), -1, *shape).sum(1)
    return _each(layer, each, gradient.reshape(len(inputs), -1, *shape).sum(1))


def _run_group_norm(layer: nn.GroupNorm, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return nn.functional.group_norm(inputs, layer.num_groups, *_detached(layer), layer.eps), inputs.detach()


def _use_group_norm(layer: nn.GroupNorm, inputs: torch.Tensor, gradient: torch.Tensor) -> Each:
    standard = nn.functional.group_norm(inputs, layer.num_groups, None, None, layer.eps)
    shape = (len(inputs), layer.num_channels, -1)
    return _each(layer, (gradient * standard).reshape(shape).sum(2), gradient.reshape(shape).sum(2))


def _each(layer: nn.LayerNorm | nn.GroupNorm, of_weight: torch.Tensor, of_bias: torch.Tensor) -> Each:
    pairs = [(layer.weight, of_weight), (layer.bias, of_bias)]
    return Each([(parameter, each) for parameter, each in pairs if parameter is not None])
