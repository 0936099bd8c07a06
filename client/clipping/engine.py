"""The interface of an engine of clipped sums, and the choice of an engine for a network."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ..records import Precision, Records
from .book_keeping import ROWS, BookKeepingEngine
from .determinism import ROW_MULTIPLE, batch_invariant_rows
from .errors import ClippingError
from .failed_passes import OnFailure, log_failure
from .validation import check_layers, check_layers_for_opacus, check_sharing


class Engine(Protocol):
    """Sums of clipped per-example gradients of one network."""

    @property
    def model(self) -> nn.Module:
        """The network. Its parameters may be set between sums."""
        ...

    @property
    def rows(self) -> int:
        """The number of records in a pass; public."""
        ...

    def rehearse(self, example: Records) -> None:
        """Take every step of a sum once, with the made-up records `example`, which have the real records' shape.

        Raises:
            ClippingError: the network cannot be trained.
        """
        ...

    def clipped_sum(
        self, batch: Records, passes: int = 1, on_failure: OnFailure = log_failure
    ) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The order is the one of `model.parameters()`; parameters that are not trained have zeros. At least `passes`
        passes run through the network, also for an empty batch, whose sum is zero. A record whose pass fails counts
        as zero, and `on_failure` is called with its index in the batch; the other records count.
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
    """Return the engine: Opacus if `engine = "opacus"`, else book-keeping.

    `rows` is the number of records in a pass of book-keeping: public, and fastest near the batch size. It is raised
    to `batch_invariant_rows`. `precision` is the dtype of passes through the network.

    Raises:
        ValueError: `rows` is not a multiple of 32.
        ClippingError: the engine cannot train the network, or it is Opacus and the precision is not float32.
    """
    if rows < 1 or rows % ROW_MULTIPLE:
        raise ValueError(f"rows come in multiples of {ROW_MULTIPLE}, not {rows}")
    if engine == "auto":
        narrow = torch.bfloat16 if precision == "bfloat16" else None
        return BookKeepingEngine(model, clip_norm, loss, batch_invariant_rows(rows), narrow)
    if precision != "float32":
        raise ClippingError("Opacus trains in float32 only", "set training.precision to float32")
    check_layers(model)
    check_layers_for_opacus(model)
    check_sharing(model)
    from .opacus import HINT, OpacusEngine  # Opacus takes a second to import

    try:
        return OpacusEngine(model, clip_norm, loss)
    except NotImplementedError as fault:
        raise ClippingError(f"Opacus cannot train the model: {fault}", HINT) from fault
