"""One backward pass under observation, from which come the uses of every layer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import nn

from ...models.objectives import Loss
from .cross_entropy_head import has_head, use_head
from .errors import ClippingError
from .fast_sequential import FastSequence
from .layers.registry import RULES, Use, Watch


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return by name the modules that have parameters of their own that are trained."""

    def trained(layer: nn.Module) -> bool:
        return any(p.requires_grad for p in layer.parameters(recurse=False))

    return {name: layer for name, layer in model.named_modules() if trained(layer)}


class Watching:
    """Watches over the trained layers of a network; within it, as a context, the layers' forwards are ours.

    It leaves the network as it was whatever happens.
    """

    def __init__(self, model: nn.Module, narrow: torch.dtype | None = None) -> None:
        """Make the watches. `narrow` is a dtype of the passes for what torch thinks fit for it; uses are not in it.

        Raises:
            ClippingError: there is no rule for a layer as it is set up, or its forward was replaced.
        """
        self._model, self._narrow, self._layers = model, narrow, trained_layers(model)
        sequences = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Sequential}
        self._replaced = {**self._layers, **sequences}
        self._check_forwards()
        self._watches: dict[str, Watch] = {name: RULES[type(layer)](layer) for name, layer in self._layers.items()}
        self._sequences = {layer: FastSequence(layer) for layer in sequences.values()}

    def __enter__(self) -> Self:
        """Install the watches.

        Raises:
            ClippingError: a layer's forward was replaced.
        """
        self._check_forwards()
        for watch in [*self._watches.values(), *self._sequences.values()]:
            watch.install()
        return self

    def __exit__(self, *fault: object) -> None:
        """Give all layers their own forwards back, and forget the uses."""
        for watch in [*self._watches.values(), *self._sequences.values()]:
            watch.remove()
        for watch in self._watches.values():
            watch.uses.clear()

    def _check_forwards(self) -> None:
        for name, layer in self._replaced.items():
            if "forward" in vars(layer):
                raise ClippingError(f"the layer {name} has a forward of its own", "make a class of such a layer")

    def uses(self, loss: Loss, features: torch.Tensor, labels: torch.Tensor, count: int) -> list[Use]:
        """Return the layers' uses in the losses of the first `count` of `rows` records, one a layer at most.

        Raises:
            ClippingError: the loss is not one number a record, or a layer is used twice.
        """
        for watch in self._watches.values():
            watch.uses.clear()
        with torch.enable_grad():
            if has_head(self._model, loss, tuple(labels.shape[1:])):
                self._pass_head(features, labels, count)
            else:
                with self._passes(features.device):
                    losses = losses_of(self._model, loss, features, labels)
                chosen = torch.zeros_like(losses)
                chosen[:count] = 1.0
                losses.backward(chosen)
        return [use for name, watch in self._watches.items() for use in _single(name, watch)]

    def _passes(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self._narrow is None else torch.autocast(device.type, self._narrow)

    def _pass_head(self, features: torch.Tensor, labels: torch.Tensor, count: int) -> None:
        """Pass back through the layers below the last from its own use, and note this."""
        model: Any = self._model
        with self._passes(features.device):
            below = self._sequences[model].through(features, len(model) - 1)
        with torch.no_grad():
            use, gradient = use_head(model[-1], below.detach().to(model[-1].weight.dtype), labels, count)
        if below.requires_grad:
            below.backward(gradient.to(below.dtype))
        next(watch for name, watch in self._watches.items() if self._layers[name] is model[-1]).uses.append(use)


def losses_of(model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the records' losses [rows].

    Raises:
        ClippingError: the loss is not one number a record.
    """
    losses = loss(model(features), labels)
    if losses.shape != (len(features),):
        raise ClippingError(
            f"the loss of {len(features)} records is {list(losses.shape)}", "let it give one a record"
        )
    return losses


def _single(name: str, watch: Watch) -> list[Use]:
    if len(watch.uses) > 1:
        raise ClippingError(f"the layer {name} is used twice for a record", "give each place a layer of its own")
    return list(watch.uses)
