"""One backward pass through a network with hooked layers, and the per-example gradients that it collects."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import nn

from ...models.objectives import Loss
from .cross_entropy_head import has_head, head_gradients
from .errors import ClippingError
from .fast_sequential import FastSequential
from .layers.base import PerExampleGradients
from .layers.registry import RULES, is_whole
from .layers.shared import sum_of_uses
from .layers.whole import WholeRule


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, the modules whose rules cover all trained parameters.

    A module without a rule of its own, but with trained parameters, is covered as a whole, with all inside it.
    """
    layers, seen = dict[str, nn.Module](), set[nn.Module]()

    def visit(name: str, module: nn.Module) -> None:
        if module in seen:
            return
        seen.add(module)
        registered = type(module) in RULES
        if any(p.requires_grad for p in module.parameters(recurse=registered and is_whole(module))):
            layers[name] = module
            if is_whole(module):
                return
        for child, inside in module.named_children():
            visit(f"{name}.{child}" if name else child, inside)

    visit("", model)
    return layers


class HookedNetwork:
    """A network with a rule for each trained layer. As a context manager, it replaces their forwards by the rules.

    After the context, also after an exception, the network is as before.
    """

    def __init__(self, model: nn.Module, narrow: torch.dtype | None = None) -> None:
        """Create the rules. `narrow` is the dtype of passes under autocast; gradients are in the parameters' dtype.

        Raises:
            ClippingError: the rule of a layer does not cover its options, or a layer's forward was replaced.
        """
        self._model, self._narrow, self._layers = model, narrow, trained_layers(model)
        covered = {inside for layer in self._layers.values() if is_whole(layer) for inside in layer.modules()}
        sequences = {
            name: layer
            for name, layer in model.named_modules()
            if type(layer) is nn.Sequential and layer not in covered
        }
        self._replaced = {**self._layers, **sequences}
        self._check_forwards()
        self._rules = {name: RULES.get(type(layer), WholeRule)(layer) for name, layer in self._layers.items()}
        self._sequences = {layer: FastSequential(layer) for layer in sequences.values()}

    def __enter__(self) -> Self:
        """Install the rules.

        Raises:
            ClippingError: a layer's forward was replaced.
        """
        self._check_forwards()
        for hook in [*self._rules.values(), *self._sequences.values()]:
            hook.install()
        return self

    def __exit__(self, *fault: object) -> None:
        """Restore all layers' own forwards, and discard the gradients."""
        for hook in [*self._rules.values(), *self._sequences.values()]:
            hook.remove()
        self._forget()

    def _forget(self) -> None:
        for rule in self._rules.values():
            rule.gradients.clear()

    def _check_forwards(self) -> None:
        for name, layer in self._replaced.items():
            if "forward" in vars(layer):
                raise ClippingError(
                    f"the layer {name} has a forward of its own", "define a layer class with that forward"
                )

    def per_example_gradients(
        self, loss: Loss, features: torch.Tensor, labels: torch.Tensor, count: int
    ) -> list[PerExampleGradients]:
        """Return, for each layer that was used, the gradients of the losses of the first `count` records.

        Features and labels are [rows, ...]; the rows after the first `count` are blanks, with gradients of zero.

        Raises:
            ClippingError: the loss is not one number for each record.
        """
        self._forget()
        with torch.enable_grad():
            if self._model not in self._layers.values() and has_head(self._model, loss, tuple(labels.shape[1:])):
                self._backward_from_head(features, labels, count)
            else:
                with self._passes(features.device):
                    losses = losses_of(self._model, loss, features, labels)
                chosen = torch.zeros_like(losses)
                chosen[:count] = 1.0
                losses.backward(chosen)
        return self._of_each_parameter(len(features))

    def _of_each_parameter(self, rows: int) -> list[PerExampleGradients]:
        """Return the gradients of all layers; uses that share parameters are summed record by record."""
        owners = Counter(p for layer in self._layers.values() for p in layer.parameters())
        alone, together = list[PerExampleGradients](), list[PerExampleGradients]()
        for name, rule in self._rules.items():
            shared = len(rule.gradients) > 1 or any(owners[p] > 1 for p in self._layers[name].parameters())
            (together if shared else alone).extend(rule.gradients)
        return [*alone, sum_of_uses(together, rows)] if together else alone

    def _passes(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self._narrow is None else torch.autocast(device.type, self._narrow)

    def _backward_from_head(self, features: torch.Tensor, labels: torch.Tensor, count: int) -> None:
        """Run the backward pass below the last layer, whose own gradients are computed together with the loss."""
        model: Any = self._model
        with self._passes(features.device):
            below = self._sequences[model].first(len(model) - 1, features)
        with torch.no_grad():
            of_head, gradient = head_gradients(model[-1], below.detach().to(model[-1].weight.dtype), labels, count)
        if below.requires_grad:
            below.backward(gradient.to(below.dtype))
        head = next(rule for name, rule in self._rules.items() if self._layers[name] is model[-1])
        head.gradients.append(of_head)


def losses_of(model: nn.Module, loss: Loss, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the records' losses [rows].

    Raises:
        ClippingError: the loss is not one number for each record.
    """
    losses = loss(model(features), labels)
    if losses.shape != (len(features),):
        raise ClippingError(
            f"the loss of {len(features)} records has shape {list(losses.shape)}", "return one loss for each record"
        )
    return losses
