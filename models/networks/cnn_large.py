"""A larger convolutional network for images."""

from __future__ import annotations

from torch import nn

from ..network import Network


def cnn_large(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Conv 3x3 32 - pool - Conv 3x3 64 - pool - Conv 3x3 128 - Dense 512 - Dense `classes`, with ReLU between.

    float32 [batch, channels, height, width] -> [batch, classes]; 688,138 parameters for 1x28x28 and 10 classes:
    28 -conv-> 26 -pool-> 13 -conv-> 11 -pool-> 5 -conv-> 3, flattened to 128 * 3 * 3 = 1152.

    Raises:
        ValueError: `shape` is not three numbers, or an image side is below 18.
    """
    if len(shape) != 3 or min(shape[1:]) < 18:
        raise ValueError(f"cnn-large takes records of shape [channels, height >= 18, width >= 18], not {list(shape)}")
    channels, height, width = shape

    def last(side: int) -> int:
        return ((side - 2) // 2 - 2) // 2 - 2

    return nn.Sequential(
        nn.Conv2d(channels, 32, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * last(height) * last(width), 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )


NETWORK = Network("cnn-large", cnn_large)
