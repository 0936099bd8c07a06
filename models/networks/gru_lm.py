"""A recurrent language model: it predicts the next token at every step."""

from __future__ import annotations

from torch import nn

from ..network import Network
from ..objectives import NEXT_TOKEN
from .rnn import EveryState


def gru_lm(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return Embedding 64 - GRU 128 - Dense 128 - ReLU - Dense `classes`; `classes` is the vocabulary size.

    int64 [batch, steps], tokens in 0..classes-1 -> [batch, steps, classes]; 2,021,008 parameters for 10,000 tokens.

    Raises:
        ValueError: `shape` is not [steps], or there are no steps.
    Reference: Cho et al. 2014.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"gru-lm takes records of shape [steps], a token sequence, not {list(shape)}")
    return nn.Sequential(
        nn.Embedding(classes, 64),
        EveryState(nn.GRU(64, 128, batch_first=True)),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


NETWORK = Network("gru-lm", gru_lm, NEXT_TOKEN)
