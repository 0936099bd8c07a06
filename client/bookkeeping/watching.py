"""One backward pass under observation, from which come the uses of every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...models.objectives import Loss
from ...privacy import PlanError
from .head import has_head, use_head
from .order import FastSequence
from .rules import RULES, Use, Watch


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return by name the modules that have parameters of their own that are trained."""

    def trained(layer: nn.Module) -> bool:
        return any(p.requires_grad for p in layer.parameters(recurse=False))

    return {name: layer for name, layer in model.named_modules() if trained(layer)}


@contextmanager
def watching(model: nn.Module) -> Iterator[dict[str, Watch]]:
    """Watch the trained layers of a network, and leave it as it was whatever happens.

    Raises:
        PlanError: there is no rule for a layer as it is set up, or its forward was replaced.
    """
    watches: dict[str, Watch] = {}
    sequences: list[FastSequence] = []
    try:
        for name, layer in trained_layers(model).items():
            if "forward" in vars(layer):
                raise PlanError(f"the layer {name} has a forward of its own", "make a class of such a layer")
            watches[name] = RULES[type(layer)](layer)
        sequences += [FastSequence(layer) for layer in model.modules() if type(layer) is nn.Sequential]
        yield watches
    finally:
        for watch in [*watches.values(), *sequences]:
            watch.remove()


def uses_of(
    model: nn.Module,
    loss: Loss,
    watches: Mapping[str, Watch],
    features: torch.Tensor,
    labels: torch.Tensor,
    count: int,
) -> list[Use]:
    """Return the layers' uses in the losses of the first `count` of `rows` records, one a layer at most.

    Raises:
        PlanError: the loss is not one number a record, or a layer is used twice.
    """
    for watch in watches.values():
        watch.uses.clear()
    head: list[Use] = []
    with torch.enable_grad():
        if has_head(model, loss, tuple(labels.shape[1:])):
            head.append(_pass_head(model, features, labels, count))
        else:
            losses_of(model, loss, features, labels)[:count].sum().backward()
    return head + [use for name, watch in watches.items() for use in _single(name, watch)]


def _pass_head(model: Any, features: torch.Tensor, labels: torch.Tensor, count: int) -> Use:
    """Pass back through the layers below the last from its own use, and return this."""
    below = model[:-1](features)
    with torch.no_grad():
        use, gradient = use_head(model[-1], below.detach(), labels, count)
    if below.requires_grad:
        below.backward(gradient)
    return use


def losses_of(model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the records' losses [rows].

    Raises:
        PlanError: the loss is not one number a record.
    """
    losses = loss(model(features), labels)
    if losses.shape != (len(features),):
        raise PlanError(f"the loss of {len(features)} records is {list(losses.shape)}", "let it give one a record")
    return losses


def _single(name: str, watch: Watch) -> list[Use]:
    if len(watch.uses) > 1:
        raise PlanError(f"the layer {name} is used twice for a record", "give each place a layer of its own")
    return list(watch.uses)
