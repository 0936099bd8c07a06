"""A small convolutional network for images."""

from __future__ import annotations

from torch import nn

from ..network import Network


def cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Conv 3x3 32 - pool - Conv 3x3 64 - pool - Dense 64 - Dense `classes`, with ReLU between.

    float32 [batch, channels, height, width] -> [batch, classes]; 121,930 parameters for 1x28x28 and 10 classes:
    28 -conv-> 26 -pool-> 13 -conv-> 11 -pool-> 5, flattened to 64 * 5 * 5 = 1600.

    Raises:
        ValueError: `shape` is not three numbers, or an image side is below 10.
    """
    if len(shape) != 3 or min(shape[1:]) < 10:
        raise ValueError(f"cnn takes records of shape [channels, height >= 10, width >= 10], not {list(shape)}")
    channels, height, width = shape

    def pooled(side: int) -> int:
        return ((side - 2) // 2 - 2) // 2

    return nn.Sequential(
        nn.Conv2d(channels, 32, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * pooled(height) * pooled(width), 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


NETWORK = Network("cnn", cnn)
