"""The clipped sum by book-keeping: one backward pass that makes no weight gradient, then the clipped sum of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ..records import Records
from .accumulate import Sums
from .capture import Watching, trained_layers
from .clip import Part, clipped_parts
from .determinism import steady
from .errors import ClippingError
from .layers.registry import RULES
from .narrowing import Faulty, like, narrowed, tell
from .self_check import check_model
from .validate import refuse

ROWS = 32
"""Rows of every batch that the network sees, unless an engine is made for others. Batches are cut and filled up with
blanks to just this size: kernels differ with the number of rows, and a server could choose parameters that blow such
a difference in the last bits up into a difference of the other records' shares, past any clip. It bounds memory too.

Large batches are faster by more rows, small ones by fewer. The number must be public: it may come from a plan, never
from how many records there are; and as `steady_rows` would have it, which `make_engine` sees to."""


class BookKeepingEngine:
    """Sums of clipped per-record gradients of one network, one vector a batch.

    `loss` gives each record's own loss, `rows` is how many records are treated at a time. Parameters that do not
    require gradients are left out of norms and sums. With `narrow`, passes through the network are in that dtype
    where torch thinks it fit; what norms and sums are made from is brought to the parameters' first.

    Guarantee: adding or removing a record moves a sum by at most clip_norm * (1 + 1/1024) in L2, whatever the
    parameters are. Norms do not come from gradients, so this needs arguments beside algorithm 1 of Abadi et al.

    Norms: a layer used at many positions has the norm of a sum over them, |sum_t g_t a_t^T|, which may cancel. It is
    either taken from the sum that goes into the result, or from Gram matrices in float64, whose error is below
    1e-12 of S^2, with S = sum_t |a_t||g_t|. A record of whose S more than 32 clip norms would come in is clipped by
    the norm of its own share, made from its own positions alone; for the others the norm is exact to 1e-8. Norms too
    small for float32's squares are lost, but 1e-6 is added to each, beside which they are nothing.

    Others: a record's share is the same to the last bit wherever it stands and whatever stands beside it. That rests
    on `steady`, on the number of rows, and on kernels that treat equal rows alike, which tests measure on CPUs and no
    library promises.

    Sums: over positions they are in float64, over the records of a batch of rows and over 8 such batches in float32.
    For n records the error is at most 2^-24 * (rows + 8) * n clip norms, if all were rounded the same way, and in
    practice some 2^-24 of the root of n. So the guarantee is proven for up to some 200 records in rows of 64, or 100
    in rows of 128, and rests for more on their roundings not conspiring: those of 4,096 would have to agree to one in
    twenty.

    A record whose gradient, or a square of it, is not finite in float32 counts as zero and spoils no other.

    Reference: Abadi et al. 2016, algorithm 1; Bu et al. 2023, book-keeping.

    Raises:
        ClippingError: a layer has no rule or mixes records; see `refuse` and `rehearse`.
    """

    def __init__(
        self,
        model: nn.Module,
        clip_norm: float,
        loss: Loss = cross_entropy,
        rows: int = ROWS,
        narrow: torch.dtype | None = None,
    ) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # norms need all the bits
        torch.backends.cudnn.deterministic = True
        self.model, self._clip_norm, self._loss, self._rows, self._narrow = model, clip_norm, loss, rows, narrow
        self._watch()

    @property
    def rows(self) -> int:
        """Return how many records are treated at a time."""
        return self._rows

    def rehearse(self, example: Records) -> None:
        """Try all that a sum does on made-up records of the kind that is to come.

        Raises:
            ClippingError: the network cannot be trained; see `check_model`.
        """
        if self._marks != self._now():
            self._watch()
        with steady(self._parameters[0].device):
            check_model(self.model, self._loss, example.features, example.labels)
            with self._watching:
                self._parts(example)
        self._rehearsed = True

    def clipped_sum(self, batch: Records, passes: int = 1, faulty: Faulty = tell) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The order is that of `model.parameters()`. Parameters that are not trained have zeros. There are `passes`
        passes through the network at least, whatever the batch: an empty one gives zeros. A record whose pass fails
        counts as zero, the others beside it stay; `faulty` is called with its place.

        Raises:
            ClippingError: the network cannot be trained, if not tried before, whatever the records are.
        """
        if self._marks != self._now():
            self._watch()
        if not self._rehearsed:
            self.rehearse(like(batch))
        sums, device = Sums(self._parameters), self._parameters[0].device
        with steady(device), self._watching:
            for parts in narrowed(batch.chunks(self._rows, passes), self._parts, faulty):
                sums.add(parts)
        return sums.total()

    def _parts(self, chunk: Records) -> list[Part]:
        """Return the parts of the sum over at most so many records as there are rows: one pass."""
        filled = chunk.filled(self._rows)
        uses = self._watching.uses(self._loss, filled.features, filled.labels, len(chunk))
        with torch.no_grad():
            return list(clipped_parts(uses, self._clip_norm, self._rows, self._parameters[0].device))

    def _watch(self) -> None:
        """Make watches of what is trained; whatever has no rule, or not as it is set up, is refused."""
        refuse(self.model)
        for name, layer in trained_layers(self.model).items():
            if type(layer) not in RULES:
                raise ClippingError(f"the layer {name} ({type(layer).__name__}) has no rule", "use the engine opacus")
        self._rehearsed, self._watching = False, Watching(self.model, self._narrow)
        self._parameters = list(self.model.parameters())
        self._owners = [owner for m in self.model.modules() for owner in (m._modules, m._parameters)]
        self._marks = self._now()

    def _now(self) -> list[int]:
        """Return what tells which layers and parameters the network has now, and which of them are trained."""
        owned = [id(part) for owner in self._owners for part in owner.values()]
        return [*owned, *(parameter.requires_grad for parameter in self._parameters)]
