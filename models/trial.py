"""Checks whether a network can be trained, by one pass on torch's meta device: without data and without memory."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from .registry import Changed, Shape, build, objective_of


def check_network(name: str, shape: Shape, classes: int, by_opacus: bool = False, start: Changed = None) -> None:
    """Refuse a network that cannot be trained on records of `shape`, or with `by_opacus` not by Opacus.

    The weights of its start, if they were read here, must fit it.

    Raises:
        NoNetworkError: no network has that name.
        ValueError: the network cannot be trained; the message says why.
    """
    with torch.device("meta"):
        model, learns = build(name, shape, classes, start=start), objective_of(name, shape)
        features, labels = (part.to("meta") for part in learns.example(shape, classes, 2))
        try:
            losses = learns.loss(model(features), learns.targets(features, labels))
        except Exception as fault:
            raise ValueError(f"{name} takes no records of shape {list(shape)}: {_first_line(fault)}") from fault
    if why := _keeps_records(model):
        raise ValueError(f"{name} cannot be trained: {why}")
    if losses.shape != (2,):
        raise ValueError(f"{name} has losses of shape {list(losses.shape)} for 2 records, not one loss per record")
    named = {key: p for key, p in model.named_parameters() if p.requires_grad}
    if by_opacus:
        found = torch.autograd.grad(losses.sum(), list(named.values()), allow_unused=True)
        unused = [key for (key, _), gradient in zip(named.items(), found, strict=True) if gradient is None]
        if why := opacus_fault(model) or (unused and f"{unused[0]} is not used"):
            raise ValueError(f"Opacus cannot train {name}: {why}")


def _keeps_records(model: nn.Module) -> str | None:
    """Return the layer that keeps statistics of a batch outside its parameters; None if there is none."""
    for name, layer in model.named_modules():
        if isinstance(layer, _NormBase) and (isinstance(layer, _BatchNorm) or layer.track_running_stats):
            return f"the layer {name} ({type(layer).__name__}) mixes the records of a batch; use nn.GroupNorm instead"
    return None


def opacus_fault(model: nn.Module) -> str | None:
    """Return the reason, found in its layers, why Opacus cannot train the network; None if no layer has one."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase) and _trained(layer):
            return f"the layer {name} ({type(layer).__name__}) has no per-example gradient in Opacus"
        if isinstance(layer, nn.LayerNorm) and _trained(layer) and layer.bias is None:  # pyright: ignore
            return f"the layer {name} (LayerNorm) has no bias"
        if _trained(layer) and any(True for _ in layer.buffers()):
            return f"the layer {name} ({type(layer).__name__}) has a frozen part beside its trained parameters"
        if any(p.dim() == 0 for p in _trained(layer)):
            return f"a parameter of the layer {name} ({type(layer).__name__}) is a scalar without a dimension"
    return None


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def _first_line(fault: Exception) -> str:
    return str(fault).strip().partition("\n")[0] or type(fault).__name__
