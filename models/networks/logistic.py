"""Logistic regression."""

from __future__ import annotations

import math

from torch import nn

from ..network import Network


def logistic(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return one dense layer with `classes` outputs on the flattened record.

    float32 [batch, *shape] -> [batch, classes]; 7,850 parameters for 1x28x28 and 10 classes.

    Raises:
        ValueError: a record of this shape has no values.
    """
    if not math.prod(shape):
        raise ValueError(f"logistic takes records of at least one number, not of shape {list(shape)}")
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


NETWORK = Network("logistic", logistic)
