"""The networks by name. Adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .cnn import cnn
from .cnn_large import cnn_large
from .logistic import logistic
from .mlp import mlp

Shape = tuple[int, ...]

MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "cnn": cnn,
    "cnn-large": cnn_large,
    "logistic": logistic,
    "mlp": mlp,
}
"""Name to a function of (shape of one record, number of classes)."""


def build(name: str, shape: Shape, classes: int, seed: int | None = None) -> nn.Module:
    """Return the network `name` for records of `shape` [channels, height, width], one logit a class.

    Weights are torch's usual random start; with `seed` they are a function of it, and torch's own generator is
    left as it was.

    Raises:
        KeyError: there is no network of that name.
        ValueError: the network cannot take records of that shape.
    """
    if seed is None:
        return MODELS[name](shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape, classes)


def count_parameters(name: str, shape: Shape, classes: int) -> int:
    """Return how many trainable parameters the network has; no memory is taken for them.

    Raises:
        KeyError, ValueError: as `build`.
    """
    with torch.device("meta"):
        return sum(p.numel() for p in MODELS[name](shape, classes).parameters())
