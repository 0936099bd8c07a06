"""nn.Sequential run faster, to the same numbers: maxima before ReLU, and ReLU in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Step = Callable[[torch.Tensor], torch.Tensor]

FRESH = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MaxPool2d)
"""Layers whose output is a new tensor that their gradient does not need."""


class FastSequence:
    """An nn.Sequential whose forward, once installed, is ours.

    max(relu(x)) is relu(max(x)), gradients and ties included: where a window's largest number is positive, both take
    the first such place, and else neither passes a gradient.
    """

    def __init__(self, sequence: nn.Sequential) -> None:
        self._sequence, self._steps = sequence, _steps(list(sequence))

    def install(self) -> None:
        """Put our forward in place of the sequence's own."""
        self._sequence.__dict__["forward"] = self._forward

    def remove(self) -> None:
        """Give the sequence its own forward back."""
        self._sequence.__dict__.pop("forward", None)

    def _forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.through(values, len(self._steps))

    def through(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """Return what comes out of the first `count` steps; the last step of all is always the last layer."""
        for step in self._steps[:count]:
            values = step(values)
        return values


def _steps(layers: list[nn.Module]) -> list[Step]:
    for place in range(len(layers) - 1):
        first, second = layers[place : place + 2]
        if is_plain(first, nn.ReLU) and is_plain(second, nn.MaxPool2d) and not second.return_indices:
            layers[place : place + 2] = second, first
    before = [None, *layers]
    return [_in_place if _fits(*pair) else pair[1] for pair in zip(before, layers, strict=False)]


def _in_place(values: torch.Tensor) -> torch.Tensor:
    return values.relu_()


def _fits(before: nn.Module | None, layer: nn.Module) -> bool:
    return is_plain(layer, nn.ReLU) and any(is_plain(before, kind) for kind in FRESH)


def is_plain(layer: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Return whether the layer is just of this kind, and nobody looks at what it does."""
    hooks = (
        ()
        if layer is None
        else (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    )
    return type(layer) is kind and not any(hooks)
