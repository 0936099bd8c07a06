"""Evaluation of the released model on test data that no client holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models import build, features_of, load_flat, objective_of, parts_of
from ...models.columns import restore, rule_of_label
from ...privacy import Plan
from ...privacy.npz import Features, Labels
from . import gan_quality as generation
from .metrics import Score, score_of

BATCH = 1024
"""Labels that are predicted in one batch."""


@dataclass(frozen=True)
class Quality:
    """The mean loss over the test records, None if it is not finite, and figures by their keys in FIGURES.

    Figures that are not defined for the data or the model are left out.
    """

    loss: float | None
    figures: Mapping[str, float]

    @property
    def score(self) -> Score | None:
        """The figure to compare models by."""
        return score_of(self.figures)


Evaluate = Callable[[NDArray[np.float32]], Quality]


def make_evaluate(plan: Plan, features: Features, labels: Labels, network: nn.Module | None = None) -> Evaluate:
    """Return the function from parameters, float32 [parameters], to quality on the given test records.

    `features` is float32 [records, *shape]. `labels` is int64 [records], or float32 [records] for regression. For
    tokens, both are int64 [records, T], and each position counts once. `network` is the plan's network; without it a
    new one is built, which needs the file that its frozen weights are from. The function runs in batches, on the GPU
    if there is one. Errors of predicted numbers are in the units of the data; the loss is in the network's units.
    """
    from .meters import METERS, figures_of  # torchmetrics is slow to import, and only evaluation needs it

    learns, device = objective_of(plan.model.name, plan.data.shape), _torch_device()
    fixed, model = parts_of((_built(plan) if network is None else deepcopy(network)).to(device).eval())
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    if learns.name == "generation":
        return _evaluate_generated(model, features)
    seen = x if fixed is None else features_of(fixed, x.to(device)).cpu()
    unit = float(np.diff(restore(np.array([0.0, 1.0]), rule_of_label(plan.data.columns, plan.data.label)))[0])
    size = max(1, BATCH // math.prod(labels.shape[1:]))

    @torch.inference_mode()
    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        meters, loss = [meter.to(device) for meter in METERS[learns.name](y, plan.data.classes)], 0.0
        predicted = True
        for part, record, expected in zip(seen.split(size), x.split(size), y.split(size), strict=True):
            part, expected = part.to(device), expected.to(device)
            outputs, targets = model(part), learns.targets(record.to(device), expected)
            loss += float(learns.loss(outputs, targets).double().sum())
            predicted = predicted and not bool(outputs.isnan().any())
            for meter in meters:
                meter.update(outputs, targets)
        finite = math.isfinite(loss)
        found = figures_of(meters, finite, predicted)
        return Quality(loss / len(x) if finite else None, _in_units(found, unit))

    return evaluate


def _in_units(figures: Mapping[str, float], unit: float) -> Mapping[str, float]:
    """Return the figures, with errors of predicted numbers times `unit`, the network's 1 in the units of the data."""
    return {name: value * unit if name in OF_NUMBERS else value for name, value in figures.items()}


OF_NUMBERS = ("rmse", "mae")
"""The figures that have the unit of the numbers to predict."""


def _evaluate_generated(model: Any, features: Features) -> Evaluate:
    """Return the function from parameters to the quality of the generated records, which have no loss."""

    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        found = generation.figures(model, features.astype(np.float32))
        return Quality(None, {name: value for name, value in found.items() if math.isfinite(value)})

    return evaluate


def _built(plan: Plan) -> nn.Module:
    return build(plan.model.name, plan.data.shape, plan.data.classes, start=plan.model.kept_start)


def _torch_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
