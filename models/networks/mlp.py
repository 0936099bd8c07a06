"""A multilayer perceptron with two hidden layers."""

from __future__ import annotations

import math

from torch import nn

from ..network import Network


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Dense 64 - Dense 64 - Dense `classes` on the flattened record, with ReLU between.

    float32 [batch, *shape] -> [batch, classes]; 55,050 parameters for 1x28x28 and 10 classes.

    Raises:
        ValueError: a record of this shape has no values.
    """
    if not math.prod(shape):
        raise ValueError(f"mlp takes records of at least one number, not of shape {list(shape)}")
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


NETWORK = Network("mlp", mlp)
