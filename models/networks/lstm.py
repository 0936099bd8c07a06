"""An LSTM (long short-term memory) network for sequences."""

from __future__ import annotations

from torch import nn

from ..network import Network
from .rnn import LastState, sequence


def lstm(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return an LSTM with 32 units and a dense layer with `classes` outputs on its last state.

    float32 [batch, (1,) steps, features] -> [batch, classes]; 8,266 parameters for 28 features and 10 classes.

    Raises:
        ValueError: `shape` is neither [steps, features] nor [1, steps, features], or one of them is zero.
    Reference: Hochreiter & Schmidhuber 1997.
    """
    _, features = sequence("lstm", shape)
    return nn.Sequential(LastState(nn.LSTM(features, 32, batch_first=True)), nn.Linear(32, classes))


NETWORK = Network("lstm", lstm)
