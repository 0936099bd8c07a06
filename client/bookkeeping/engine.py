"""The clipped sum by book-keeping: one backward pass that makes no weight gradient, then the clipped sum of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ...privacy import PlanError
from ..records import Records
from .checks import check_model
from .clipping import clipped_parts
from .refusals import refuse
from .rules import RULES
from .sums import Sums
from .watching import trained_layers, uses_of, watching

ROWS = 32
"""Rows of every batch that the network sees, unless an engine is made for others. Batches are cut and filled up with
blanks to just this size: kernels differ with the number of rows, and a server could choose parameters that blow such
a difference in the last bits up into a difference of the other records' shares, past any clip. It bounds memory too.

Large batches are faster by more rows, small ones by fewer. The number must be public: it may come from a plan, never
from how many records there are."""


class BookKeepingEngine:
    """Sums of clipped per-record gradients of one network, one vector a batch.

    `loss` gives each record's own loss, `rows` is how many records are treated at a time. Parameters that do not
    require gradients are left out of norms and sums.

    Guarantee: adding or removing a record moves a sum by at most clip_norm * (1 + 1/1024) in L2, whatever the
    parameters are. Norms do not come from gradients, so this needs two arguments beside algorithm 1 of Abadi et al.

    Norms: a layer used at many positions has the norm of a sum over them, |sum_t g_t a_t^T|, which may cancel. It is
    either taken from the sum that goes into the result, or from Gram matrices in float64, whose error is below
    1e-12 of S^2, with S = sum_t |a_t||g_t|.

    Sums: a contraction over the positions of many records at once in float32 has an error relative to S, which moves
    when any record comes or goes, and which no clip bounds where S is far larger than the norm. So a record that
    would bring in more than 32 clip norms of S is summed alone, over its own positions, and clipped by the norm of
    what came out. For the others Gram norms are exact to 1e-8, and 32 records of 32 clip norms of cancelling terms
    each leave an error of some 2^-24 * 32 * 32 clip norms, a sixteenth of 1/1024. Gradients of training, where S is a
    small multiple of the norm, are all summed together.

    A record whose gradient is not finite in float32 counts as zero and spoils no other.

    Reference: Abadi et al. 2016, algorithm 1; Bu et al. 2023, book-keeping.

    Raises:
        PlanError: a layer has no rule or mixes records; see `refuse` and, at the first batch, `check_model`.
    """

    def __init__(self, model: nn.Module, clip_norm: float, loss: Loss = cross_entropy, rows: int = ROWS) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # norms need all the bits
        refuse(model)
        self.model, self._clip_norm, self._loss, self._rows = model, clip_norm, loss, rows
        for name, layer in trained_layers(model).items():
            if type(layer) not in RULES:
                raise PlanError(f"the layer {name} ({type(layer).__name__}) has no rule", "use the engine opacus")
        self._checked = False
        with watching(model):  # rules refuse options here
            pass

    def clipped_sum(self, batch: Records) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The order is that of `model.parameters()`. An empty batch gives zeros; so do parameters that are not trained.
        """
        parameters = list(self.model.parameters())
        if not len(batch):
            return Sums(parameters).total()
        self._check(batch)
        sums = Sums(parameters)
        with watching(self.model) as watches:
            for chunk in batch.chunks(self._rows):
                filled = _fill(chunk.features, self._rows), _fill(chunk.labels, self._rows)
                uses = uses_of(self.model, self._loss, watches, *filled, len(chunk))
                with torch.no_grad():
                    sums.add(clipped_parts(uses, self._clip_norm, self._rows))
        return sums.total()

    def _check(self, batch: Records) -> None:
        """Check the network at its first batch, whose shape is all that is used of it."""
        if not self._checked:
            check_model(self.model, self._loss, batch.features, batch.labels)
        self._checked = True


def _fill(part: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a tensor filled up with blanks to `rows` rows."""
    return torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])
