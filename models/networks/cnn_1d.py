"""A small convolutional network for time series."""

from __future__ import annotations

import torch
from torch import nn

from ..network import Network
from .rnn import sequence

KERNELS, POOL, PLACES = (9, 5), 4, 4
"""The lengths of the two kernels, the steps that the first pool averages, and the places that the last one leaves."""


def cnn_1d(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Conv 9 32 - GroupNorm - pool 4 - Conv 5 64 - GroupNorm - pool to 4 places - Dense `classes`, with ReLU.

    Sequences, float32 [batch, (1,) steps, features] -> [batch, classes]; 13,798 parameters for 6 features and 6
    classes, whatever the number of steps.

    Raises:
        ValueError: `shape` is not [steps, features] or [1, steps, features], or there are fewer than 16 steps.
    """
    steps, features = sequence("cnn-1d", shape)
    if steps < POOL * PLACES:
        raise ValueError(f"cnn-1d takes sequences of at least {POOL * PLACES} steps, not of {steps}")
    first, second = KERNELS
    return nn.Sequential(
        nn.Flatten(1, -2) if len(shape) == 3 else nn.Identity(),
        Channels(),
        nn.Conv1d(features, 32, first, padding=first // 2),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.AvgPool1d(POOL),
        nn.Conv1d(32, 64, second, padding=second // 2),
        nn.GroupNorm(4, 64),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(PLACES),
        nn.Flatten(),
        nn.Linear(64 * PLACES, classes),
    )


class Channels(nn.Module):
    """Features as channels: [batch, steps, features] -> [batch, features, steps]."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the transposed sequences."""
        return steps.transpose(1, 2)


NETWORK = Network("cnn-1d", cnn_1d)
