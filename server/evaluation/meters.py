"""The metrics of each objective, by torchmetrics. They are updated batch by batch, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.image import PeakSignalNoiseRatio
from torchmetrics.text import Perplexity

from .metrics import FIGURES

KEPT = 2**24
"""The most probabilities that are kept for the ROC-AUC, float32: 64 MiB. For more, it is not measured."""

LABEL_FIGURES = frozenset({"accuracy", "precision", "recall", "f1"})
"""Figures that need only predicted labels, which a model may give even if its loss is not finite."""

Tensors = tuple[torch.Tensor, torch.Tensor]


class Meter:
    """Metrics with the same input, and the function from outputs and targets, both [rows, ...], to this input."""

    def __init__(self, inputs: Callable[[torch.Tensor, torch.Tensor], Tensors], **metrics: Metric) -> None:
        """Accumulate in float64 for every dtype of the input."""
        self.inputs, self.metrics = inputs, MetricCollection(dict(metrics)).set_dtype(torch.float64)

    def to(self, device: torch.device) -> Meter:
        """Return the meter, moved to a device."""
        self.metrics.to(device)
        return self

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch."""
        self.metrics.update(*self.inputs(outputs, targets))

    def figures(self) -> dict[str, float]:
        """Return the figures of all batches."""
        return {key: float(value) for key, value in self.metrics.compute().items()}


def figures_of(meters: Sequence[Meter], finite: bool, predicted: bool = True) -> dict[str, float]:
    """Return the finite figures of the meters; if the loss is not `finite`, only figures of predicted labels.

    `predicted` is whether every record has a predicted label; outputs with NaN give none, because NaN has no order.
    If not, figures of predicted labels are left out too.
    """
    found = {key: value for meter in meters for key, value in meter.figures().items()}
    given = [key for key in FIGURES if key in found and math.isfinite(found[key])]
    return {key: found[key] for key in given if finite or (predicted and key in LABEL_FIGURES)}


def classification(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of classification; ROC-AUC needs two or more classes, all of them in the test data."""
    labelled = Meter(
        _predictions,
        accuracy=MulticlassAccuracy(classes, average="micro", validate_args=False),
        precision=MulticlassPrecision(classes, validate_args=False),
        recall=MulticlassRecall(classes, validate_args=False),
        f1=MulticlassF1Score(classes, validate_args=False),
    )
    if len(labels.unique()) < max(classes, 2) or len(labels) * classes > KEPT:
        return [labelled]
    return [labelled, Meter(_probabilities, roc_auc=MulticlassAUROC(classes, validate_args=False))]


def next_token(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of next-token prediction; each position counts once."""
    accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
    return [Meter(_predictions, accuracy=accuracy), Meter(_in_double, perplexity=Perplexity())]


def regression(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of regression; R2 is measured only if the targets of the test records differ.

    Targets are standardised for R2, because torchmetrics treats sums of squares below 1e-4 as zero.
    """
    errors = Meter(_flat, rmse=MeanSquaredError(squared=False), mae=MeanAbsoluteError())
    spread, middle = torch.std_mean(labels.double(), correction=0)
    if not spread > 0:
        return [errors]
    shift, scale = float(middle), float(spread)
    return [errors, Meter(lambda *both: _scaled(_flat(*both), shift, scale), r2=R2Score())]


def reconstruction(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of reconstruction, for targets in 0..1."""
    return [Meter(_flat, mse=MeanSquaredError(), psnr=PeakSignalNoiseRatio(data_range=1.0))]


METERS: dict[str, Callable[[torch.Tensor, int], list[Meter]]] = {
    "classification": classification,
    "next token": next_token,
    "regression": regression,
    "reconstruction": reconstruction,
}
"""Maps each objective to a function that returns new meters, from the labels of all test records and the number of
classes."""


def _predictions(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.argmax(-1), targets


def _probabilities(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.softmax(-1), targets


def _in_double(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    """Return the outputs in float64, in which a probability underflows only below e^-700."""
    return outputs.double(), targets


def _flat(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.flatten().double(), targets.flatten().double()


def _scaled(both: Tensors, shift: float, scale: float) -> Tensors:
    outputs, targets = both
    return (outputs - shift) / scale, (targets - shift) / scale
