"""Linear regression."""

from __future__ import annotations

import math

from torch import nn

from ..network import Network
from ..objectives import REGRESSION


def linear(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return one dense layer with one output, the predicted value, on the flattened record.

    float32 [batch, *shape] -> [batch, 1]; 11 parameters for 10 features.

    Raises:
        ValueError: a record of this shape has no values, or `classes` is not 1.
    """
    if not math.prod(shape):
        raise ValueError(f"linear takes records of at least one number, not of shape {list(shape)}")
    if classes != 1:
        raise ValueError(f"linear predicts one number and needs data.classes = 1, not {classes}")
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 1))


NETWORK = Network("linear", linear, REGRESSION)
