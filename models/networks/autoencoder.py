"""An autoencoder with a bottleneck of 32 units."""

from __future__ import annotations

import math

from torch import nn

from ..network import Network
from ..objectives import RECONSTRUCTION


def autoencoder(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Dense 128 - Dense 32 - Dense 128 - Dense to the size of the record, with ReLU between.

    float32 [batch, *shape] -> the same shape; 209,968 parameters for 1x28x28, whatever the classes. The last layer
    is linear: records may hold any numbers, and the gradient of a squared error vanishes through a saturated sigmoid.

    Raises:
        ValueError: a record of this shape has no values.
    Reference: Hinton & Salakhutdinov 2006.
    """
    del classes
    if min(shape, default=0) < 1:
        raise ValueError(f"autoencoder takes records of at least one number, not of shape {list(shape)}")
    numbers = math.prod(shape)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(numbers, 128),
        nn.ReLU(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 128),
        nn.ReLU(),
        nn.Linear(128, numbers),
        nn.Unflatten(1, shape),
    )


NETWORK = Network("autoencoder", autoencoder, RECONSTRUCTION)
