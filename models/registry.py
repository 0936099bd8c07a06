"""The networks by name. A new network needs a file and an entry in `MODELS`."""

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
"""Maps a name to a function of (shape of one record, number of classes)."""

OBJECTIVES: dict[str, Callable[[Shape], Objective]] = {
    "attention": lambda shape: NEXT_TOKEN if len(shape) == 1 else CLASSIFICATION,
    "autoencoder": lambda shape: RECONSTRUCTION,
    "gan": lambda shape: GENERATION,
    "gru-lm": lambda shape: NEXT_TOKEN,
    "linear": lambda shape: REGRESSION,
}
"""Maps the name of a network that does not classify to a function of the shape of one record."""

REFINES: dict[str, Callable[[Any, int], None]] = {"gan": refine}
"""Maps a name to a function of (network, seed). It trains, in place and without data, what devices do not train."""


def objective_of(name: str, shape: Shape) -> Objective:
    """Return what the network `name` learns from records of `shape`."""
    return OBJECTIVES[name](shape) if name in OBJECTIVES else CLASSIFICATION


def build(name: str, shape: Shape, classes: int, seed: int | None = None) -> nn.Module:
    """Return the network `name` for records of `shape` and for `classes` classes.

    Weights have torch's default random initialization. With `seed` they are a function of the seed, and the state of
    torch's global generator does not change.

    Raises:
        KeyError: no network has that name.
        ValueError: the network does not accept records of that shape.
    """
    if seed is None:
        return MODELS[name](shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape, classes)


def count_parameters(name: str, shape: Shape, classes: int) -> int:
    """Return how many parameters the network has, without allocating them.

    Raises:
        KeyError, ValueError: as `build`.
    """
    with torch.device("meta"):
        return sum(p.numel() for p in MODELS[name](shape, classes).parameters())
