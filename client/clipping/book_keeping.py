"""The clipped sum by book-keeping: one backward pass without weight gradients, then the sum of clipped gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ..records import Records
from .accumulate import Accumulator, PartialSum
from .clip import clipped_partial_sums
from .determinism import batch_invariant
from .failed_passes import OnFailure, log_failure, made_up_record, without_failures
from .gradient_check import check_gradients
from .hooks import HookedNetwork
from .validation import check_layers

ROWS = 32
"""The default number of records in every pass through the network. A batch is cut into chunks of this size, and
blanks fill up the last chunk. The reason: the last bits of a kernel's result depend on the number of rows. A server
could choose parameters that turn such a difference into a large change of other records' gradients, which no clip
bounds. A fixed number also bounds memory.

More rows are faster for large batches, fewer rows for small ones. The number must be public: it may follow from a
plan, never from the number of records. `make_engine` raises it to `batch_invariant_rows`."""


class BookKeepingEngine:
    """Sums of clipped per-example gradients of one network, one vector for each batch.

    `loss` returns each record's own loss; `rows` is the number of records in a pass. Parameters that do not require
    gradients are left out of norms and sums. With `narrow`, passes through the network run under autocast to that
    dtype; norms and sums are computed in the parameters' dtype.

    Guarantee: adding or removing a record moves a sum by at most clip_norm * (1 + 1/1024) in L2, whatever the
    parameters are. Ghost norms are not computed from gradients, so the proof needs more than algorithm 1 of Abadi
    et al.:

    Norms: the gradient of a layer that is used at many positions is a sum over them, sum_t g_t a_t^T, and its terms
    may cancel. Its norm is computed either from the instantiated gradient, which is then also summed, or from Gram
    matrices in float64, with an error below 1e-12 of S^2 for S = sum_t |a_t||g_t|. A record that would add more than
    32 clip norms of S is clipped by the norm of its own sum, from its own positions alone; for the others the norm is
    exact to 1e-8. Norms whose squares underflow in float32 are lost. They are negligible beside the 1e-6 that is
    added to each norm.

    Other records: a record's gradient is the same to the last bit in every row and beside all other records. This
    relies on `batch_invariant`, on the fixed number of rows, and on kernels that treat equal rows alike. No library
    promises the last point; tests measure it on CPUs.

    Sums: sums over positions are in float64; sums over the rows of a pass, and over 8 passes, are in float32. For n
    records the error is at most 2^-24 * (rows + 8) * n clip norms, the case in which all roundings have one
    direction, and in practice about 2^-24 times the root of n. So the guarantee is proven for up to about 200 records
    with 64 rows, or 100 with 128. For more records it is not proven, and assumes that roundings do not agree in
    direction: with 4,096 records, one in twenty would have to agree for the guarantee to fail.

    A record whose gradient, or its square, is not finite in float32 counts as zero and does not change the others.

    Reference: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1; Bu et al. 2023,
    "Differentially Private Optimization on Large Model at Small Cost", book-keeping.

    Raises:
        ClippingError: a layer has no rule or mixes records; see `check_layers` and `rehearse`.
    """

    def __init__(
        self,
        model: nn.Module,
        clip_norm: float,
        loss: Loss = cross_entropy,
        rows: int = ROWS,
        narrow: torch.dtype | None = None,
    ) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # norms need full precision
        torch.backends.cudnn.deterministic = True
        self.model, self._clip_norm, self._loss, self._rows, self._narrow = model, clip_norm, loss, rows, narrow
        self._hook()

    @property
    def rows(self) -> int:
        """The number of records in a pass; public."""
        return self._rows

    def rehearse(self, example: Records) -> None:
        """Take every step of a sum once, with the made-up records `example`, which have the real records' shape.

        Raises:
            ClippingError: the network cannot be trained; see `check_gradients`.
        """
        self._hook_if_changed()
        with batch_invariant(self._parameters[0].device):
            check_gradients(self.model, self._loss, example.features, example.labels)
            with self._hooked:
                self._pass(example)
        self._rehearsed = True

    def clipped_sum(
        self, batch: Records, passes: int = 1, on_failure: OnFailure = log_failure
    ) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The order is the one of `model.parameters()`; parameters that are not trained have zeros. At least `passes`
        passes run through the network, also for an empty batch, whose sum is zero. A record whose pass fails counts
        as zero, and `on_failure` is called with its index in the batch; the other records count.

        Raises:
            ClippingError: the network cannot be trained. This depends on the network and the shapes, not on a record,
                and is raised only if `rehearse` was not called before.
        """
        self._hook_if_changed()
        if not self._rehearsed:
            self.rehearse(made_up_record(batch))
        total = Accumulator(self._parameters)
        with batch_invariant(self._parameters[0].device), self._hooked:
            for sums in without_failures(batch.chunks(self._rows, passes), self._pass, on_failure):
                total.add(sums)
        return total.total()

    def _pass(self, chunk: Records) -> list[PartialSum]:
        """Return the partial sums over at most `rows` records, by one pass through the network."""
        filled = chunk.filled(self._rows)
        layers = self._hooked.per_example_gradients(self._loss, filled.features, filled.labels, len(chunk))
        with torch.no_grad():
            return list(clipped_partial_sums(layers, self._clip_norm, self._rows, self._parameters[0].device))

    def _hook_if_changed(self) -> None:
        """Hook the network again if a layer or parameter was replaced, or other parameters are trained now."""
        if self._marks != self._now():
            self._hook()

    def _hook(self) -> None:
        check_layers(self.model)
        self._rehearsed, self._hooked = False, HookedNetwork(self.model, self._narrow)
        self._parameters = list(self.model.parameters())
        self._owners = [owner for m in self.model.modules() for owner in (m._modules, m._parameters)]
        self._marks = self._now()

    def _now(self) -> list[int]:
        """Return the identities of the network's layers and parameters, and which parameters are trained."""
        owned = [id(part) for owner in self._owners for part in owner.values()]
        return [*owned, *(parameter.requires_grad for parameter in self._parameters)]
