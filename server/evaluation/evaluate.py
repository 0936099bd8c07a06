"""How good the released model is, on test data that no client holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...models import build, load_flat, objective_of
from ...privacy import Plan
from ...privacy.npz import Features, Labels
from . import gan_quality as generation
from .metrics import Score, score_of

BATCH = 1024
"""Labels told at a time."""


@dataclass(frozen=True)
class Quality:
    """The mean loss of the test records, None where it is not finite, and figures, each by its key in FIGURES.

    A figure that the data or the model do not give is left out.
    """

    loss: float | None
    figures: Mapping[str, float]

    @property
    def score(self) -> Score | None:
        """The figure to compare models by."""
        return score_of(self.figures)


Evaluate = Callable[[NDArray[np.float32]], Quality]


def make_evaluate(plan: Plan, features: Features, labels: Labels) -> Evaluate:
    """Return the function from parameters, float32 [parameters], to quality on the given test records.

    `features` is float32 [records, *shape], `labels` int64 [records], float32 [records] where a number is to be
    predicted; of tokens both are int64 [records, T], and each place counts once. It computes on the GPU where there
    is one, a batch at a time.
    """
    from .meters import METERS, figures_of  # torchmetrics is slow to import, and who does not evaluate can do without

    learns, device = objective_of(plan.model.name, plan.data.shape), _torch_device()
    model = build(plan.model.name, plan.data.shape, plan.data.classes).to(device).eval()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    if learns.name == "generation":
        return _made_records(model, features)
    size = max(1, BATCH // math.prod(labels.shape[1:]))

    @torch.inference_mode()
    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        meters, loss = [meter.to(device) for meter in METERS[learns.name](y, plan.data.classes)], 0.0
        tells = True
        for part, told in zip(x.split(size), y.split(size), strict=True):
            part, told = part.to(device), told.to(device)
            outputs, targets = model(part), learns.targets(part, told)
            loss += float(learns.loss(outputs, targets).double().sum())
            tells = tells and not bool(outputs.isnan().any())
            for meter in meters:
                meter.update(outputs, targets)
        finite = math.isfinite(loss)
        return Quality(loss / len(x) if finite else None, figures_of(meters, finite, tells))

    return evaluate


def _made_records(model: Any, features: Features) -> Evaluate:
    """Return the function from parameters to the quality of the records that they make; they have no loss."""

    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        found = generation.figures(model, features.astype(np.float32))
        return Quality(None, {name: value for name, value in found.items() if math.isfinite(value)})

    return evaluate


def _torch_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
