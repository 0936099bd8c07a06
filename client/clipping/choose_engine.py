"""Which engine makes the clipped sums of a network."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ..records import Precision, Records
from .capture import trained_layers
from .determinism import GRAIN, steady_rows
from .errors import ClippingError
from .ghost_engine import ROWS, BookKeepingEngine
from .layers.registry import RULES
from .narrowing import Faulty, tell
from .opacus_engine import HINT, OpacusEngine
from .validate import refuse, refuse_for_opacus


class Engine(Protocol):
    """Sums of clipped per-record gradients of one network."""

    @property
    def model(self) -> nn.Module:
        """Return the network, whose parameters may be set between sums."""
        ...

    @property
    def rows(self) -> int:
        """Return how many records are treated at a time: public."""
        ...

    def rehearse(self, example: Records) -> None:
        """Try all that a sum does on made-up records of the kind that is to come.

        Raises:
            ClippingError: the network cannot be trained.
        """
        ...

    def clipped_sum(self, batch: Records, passes: int = 1, faulty: Faulty = tell) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The network is passed through `passes` times at least. A record whose pass fails counts as zero, and `faulty`
        is called with its place.
        """
        ...


def make_engine(
    model: nn.Module,
    clip_norm: float,
    loss: Loss = cross_entropy,
    engine: Literal["auto", "opacus"] = "auto",
    rows: int = ROWS,
    precision: Precision = "float32",
) -> Engine:
    """Return book-keeping where every trained layer has a rule, else Opacus; with `engine` opacus always that.

    `rows` is how many records book-keeping takes at a time: public, and the faster the nearer to the batch size; they
    are raised to a number that this machine's CPU treats alike. `precision` is that of passes through the network.

    Raises:
        ValueError: `rows` is no multiple of 32.
        ClippingError: neither can train the network, or Opacus alone can and the precision is not float32.
    """
    if rows < 1 or rows % GRAIN:
        raise ValueError(f"rows come in multiples of {GRAIN}, not {rows}")
    if engine == "auto" and all(type(layer) in RULES for layer in trained_layers(model).values()):
        narrow = torch.bfloat16 if precision == "bfloat16" else None
        return BookKeepingEngine(model, clip_norm, loss, steady_rows(rows), narrow)
    if precision != "float32":
        raise ClippingError("Opacus trains this network, and in float32 only", "set training.precision to float32")
    refuse(model)
    refuse_for_opacus(model)
    try:
        return OpacusEngine(model, clip_norm, loss)
    except NotImplementedError as fault:
        raise ClippingError(f"Opacus cannot train the model: {fault}", HINT) from fault
