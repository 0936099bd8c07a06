"""The networks by name. Adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .attention import attention
from .autoencoder import autoencoder
from .cnn import cnn
from .cnn_large import cnn_large
from .gan import gan, refine
from .gru_lm import gru_lm
from .linear import linear
from .logistic import logistic
from .lstm import lstm
from .mlp import mlp
from .objectives import CLASSIFICATION, GENERATION, NEXT_TOKEN, RECONSTRUCTION, REGRESSION, Objective
from .rnn import rnn

Shape = tuple[int, ...]

MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "attention": attention,
    "autoencoder": autoencoder,
    "cnn": cnn,
    "cnn-large": cnn_large,
    "gan": gan,
    "gru-lm": gru_lm,
    "linear": linear,
    "logistic": logistic,
    "lstm": lstm,
    "mlp": mlp,
    "rnn": rnn,
}
"""Name to a function of (shape of one record, number of classes)."""

OBJECTIVES: dict[str, Callable[[Shape], Objective]] = {
    "attention": lambda shape: NEXT_TOKEN if len(shape) == 1 else CLASSIFICATION,
    "autoencoder": lambda shape: RECONSTRUCTION,
    "gan": lambda shape: GENERATION,
    "gru-lm": lambda shape: NEXT_TOKEN,
    "linear": lambda shape: REGRESSION,
}
"""Name to a function of the shape of one record, for networks that learn something else than to tell classes."""

REFINES: dict[str, Callable[[Any, int], None]] = {"gan": refine}
"""Name to a function of a network and a seed, which trains in place what devices do not: it sees no data."""


def objective_of(name: str, shape: Shape) -> Objective:
    """Return what the network `name` learns from records of `shape`."""
    return OBJECTIVES[name](shape) if name in OBJECTIVES else CLASSIFICATION


def build(name: str, shape: Shape, classes: int, seed: int | None = None) -> nn.Module:
    """Return the network `name` for records of `shape`, of which each file says what it may be, and so many classes.

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
