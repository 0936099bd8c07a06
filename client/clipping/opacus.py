"""The clipped sum by Opacus, which instantiates every per-example gradient: for layers without a rule of ours."""

# Opacus sets `grad_sample` and `summed_grad` on parameters, which their type does not know:
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn

from ...models.objectives import Loss, cross_entropy
from ..records import Records
from .determinism import ROW_MULTIPLE, batch_invariant, batch_invariant_rows
from .errors import ClippingError
from .failed_passes import OnFailure, log_failure, made_up_record, without_failures
from .hooks import losses_of

ROWS = ROW_MULTIPLE
"""The number of records in every pass, before it is raised to `batch_invariant_rows`. `book_keeping.ROWS` says why
it is fixed."""


HINT = "set training.engine to auto"


class RecordClipper(DPOptimizer):
    """Opacus' optimizer, used only for its clipped sum, and safe against gradients that are not finite.

    A record whose gradient is not finite counts as zero; in Opacus it would make the whole sum NaN, so that one
    record could move the sum without bound. Norms are summed in float64: in float32, the norm of ten million equal
    entries would be one per cent too small.
    """

    def clip_and_accumulate(self) -> None:
        """Set `summed_grad` to the sum of the clipped gradients of the batch."""
        gradients = self.grad_samples
        norms = [torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factor = torch.where(torch.isfinite(norm), (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0), 0.0)
        for p, gradient in zip(self.params, gradients, strict=True):
            kept = gradient if bool(factor.all()) else torch.where(_rows(factor > 0, gradient), gradient, 0.0)
            p.summed_grad = torch.einsum("i,i...", factor.to(kept.dtype), kept)


def _rows(chosen: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return bool [records] in a shape that selects the records of a tensor [records, ...]."""
    return chosen.view(-1, *[1] * (like.dim() - 1))


class OpacusEngine:
    """Sums of clipped per-example gradients of one network, one vector for each batch.

    Raises:
        ClippingError: Opacus has no per-example gradient for a layer of the network.
    """

    def __init__(self, model: nn.Module, clip_norm: float, loss: Loss = cross_entropy) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # norms need full precision
        if faults := ModuleValidator.validate(model, strict=False):
            raise ClippingError(f"the model cannot be trained privately: {faults[0]}", "choose another model.name")
        self._clip_norm, self._loss, self._rows = clip_norm, loss, batch_invariant_rows(ROWS)
        self._rehearsed = False
        self._hook(model)

    def _hook(self, model: nn.Module) -> None:
        self.model = GradSampleModule(model, loss_reduction="sum")
        self._clipper = RecordClipper(
            torch.optim.SGD(self.model.parameters(), lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=self._clip_norm,
            expected_batch_size=1,
            loss_reduction="sum",
        )

    @property
    def rows(self) -> int:
        """The number of records in a pass; public."""
        return self._rows

    def rehearse(self, example: Records) -> None:
        """Try one pass with the made-up records `example`, which have the real records' shape.

        Raises:
            ClippingError: Opacus cannot train the network.
        """
        try:
            with batch_invariant(next(self.model.parameters()).device):
                self._chunk_sum(example)
        except Exception as fault:
            what = str(fault).strip().partition("\n")[0] or type(fault).__name__
            raise ClippingError(f"Opacus cannot train the model: {what}", HINT) from fault
        self._rehearsed = True

    def clipped_sum(
        self, batch: Records, passes: int = 1, on_failure: OnFailure = log_failure
    ) -> NDArray[np.float64]:
        """Return the sum over the batch of each record's gradient clipped to the clip norm, float64 [parameters].

        The order is the one of `model.parameters()`; parameters that are not trained have zeros. At least `passes`
        passes run through the network, also for an empty batch, whose sum is zero. A record whose pass fails counts
        as zero, and `on_failure` is called with its index in the batch; the other records count.

        Guarantee: adding or removing a record moves the sum by at most the clip norm in L2, up to float32 rounding.
        Reference: Abadi et al. 2016, algorithm 1.

        Raises:
            ClippingError: Opacus cannot train the network. This depends on the network and the shapes, not on a
                record, and is raised only if `rehearse` was not called before.
        """
        if not self._rehearsed:
            self.rehearse(made_up_record(batch))
        parameters = list(self.model.parameters())
        total = np.zeros(sum(p.numel() for p in parameters))
        with batch_invariant(parameters[0].device):
            for part in without_failures(batch.chunks(self._rows, passes), self._chunk_sum, on_failure):
                total += part
        return total

    def _chunk_sum(self, chunk: Records) -> NDArray[np.float64]:
        try:
            return self._pass(chunk)
        except Exception:
            self._hook(self.model.to_standard_module())  # the fault left Opacus' hooks in the middle of a batch
            raise

    def _pass(self, chunk: Records) -> NDArray[np.float64]:
        self._clipper.zero_grad(set_to_none=True)
        filled = chunk.filled(self._rows)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            losses = losses_of(self.model, self._loss, filled.features, filled.labels)
            chosen = torch.zeros_like(losses)
            chosen[: len(chunk)] = 1.0
            losses.backward(chosen)
        self._clipper.clip_and_accumulate()
        parts = [
            (p.summed_grad if p.requires_grad else torch.zeros_like(p)).flatten() for p in self.model.parameters()
        ]
        self._clipper.zero_grad(set_to_none=True)
        return torch.cat(parts).cpu().numpy().astype(np.float64)
