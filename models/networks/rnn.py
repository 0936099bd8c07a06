"""A simple recurrent network for sequences, and wrappers that return a recurrent layer's states."""

from __future__ import annotations

import torch
from torch import nn

from ..network import Network


class EveryState(nn.Module):
    """A recurrent layer's states at all steps: [batch, steps, features] -> [batch, steps, units]."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the states of the uppermost layer."""
        return self.layer(inputs)[0]


class LastState(EveryState):
    """A recurrent layer's state after the last step: [batch, (1,) steps, features] -> [batch, units]."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the last state of the uppermost layer; a channel axis of length 1 before the steps is dropped."""
        _, ends = self.layer(inputs.flatten(1, -2))
        states = ends[0] if isinstance(ends, tuple) else ends
        return states[-1]


def sequence(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (steps, features) for records of `shape`; an image with one channel is a sequence of its rows.

    Raises:
        ValueError: `shape` is neither [steps, features] nor [1, steps, features], or one of them is zero.
    """
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) or min(shape) < 1:
        raise ValueError(
            f"{name} takes records of shape [steps, features] or [1, steps, features], not {list(shape)}"
        )
    return shape[-2], shape[-1]


def rnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a simple RNN with 32 tanh units and a dense layer with `classes` outputs on its last state.

    float32 [batch, (1,) steps, features] -> [batch, classes]; 2,314 parameters for 28 features and 10 classes.

    Raises:
        ValueError: `shape` is neither [steps, features] nor [1, steps, features], or one of them is zero.
    Reference: Elman 1990.
    """
    _, features = sequence("rnn", shape)
    return nn.Sequential(LastState(nn.RNN(features, 32, batch_first=True)), nn.Linear(32, classes))


NETWORK = Network("rnn", rnn)
