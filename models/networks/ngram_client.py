"""The n-gram model for clients: one step of Adam leaves which pairs a client's records have, and not how often."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..network import Network
from ..objectives import NEXT_TOKEN
from .ngram import back_off, minus_score

SCALES = (1.0,) * 5
"""One step of Adam moves every parameter of a pair that occurs by the learning rate, whatever its weight."""


def ngram_client(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the tables of `ngram`, read as numbers of clients.

    int64 [batch, steps], tokens in 0..classes-1 -> [batch, steps, classes]; 11,004,240 parameters for 80 characters.
    Train it in one round of all clients, with one local step of Adam and `server.optimizer = "sgd"`.

    Raises:
        ValueError: `shape` is not [steps], or there are no steps.
    """
    return back_off("ngram-client", shape, classes, SCALES)


NETWORK = Network("ngram-client", ngram_client, replace(NEXT_TOKEN, loss=minus_score))
