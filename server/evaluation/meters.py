"""What measures the figures of each objective, by torchmetrics: fed batch by batch, in memory that does not grow."""

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
"""Most probabilities that are kept for the ROC-AUC, float32: 64 MiB. Of more, it is not measured."""

TOLD = frozenset({"accuracy", "precision", "recall", "f1"})
"""Figures of the labels that are told alone: also a model whose loss is not finite may tell them."""

Tensors = tuple[torch.Tensor, torch.Tensor]


class Meter:
    """Metrics that take the same input, and the function to it from outputs and targets, both [rows, ...]."""

    def __init__(self, inputs: Callable[[torch.Tensor, torch.Tensor], Tensors], **metrics: Metric) -> None:
        """Sum in float64, whatever the input."""
        self.inputs, self.metrics = inputs, MetricCollection(dict(metrics)).set_dtype(torch.float64)

    def to(self, device: torch.device) -> Meter:
        """Return the meter, moved to a device."""
        self.metrics.to(device)
        return self

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Take in a batch."""
        self.metrics.update(*self.inputs(outputs, targets))

    def figures(self) -> dict[str, float]:
        """Return the figures of all batches."""
        return {key: float(value) for key, value in self.metrics.compute().items()}


def figures_of(meters: Sequence[Meter], finite: bool, tells: bool = True) -> dict[str, float]:
    """Return what the meters measured; where the model's loss is not `finite`, only figures of the labels it tells.

    Not even these where it does not tell one for every record: the largest of outputs that hold NaN is none.
    """
    found = {key: value for meter in meters for key, value in meter.figures().items()}
    given = [key for key in FIGURES if key in found and math.isfinite(found[key])]
    return {key: found[key] for key in given if finite or (tells and key in TOLD)}


def classification(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of labels; of ROC-AUC only of two classes or more, all in the test data, and few numbers."""
    told = Meter(
        _told,
        accuracy=MulticlassAccuracy(classes, average="micro", validate_args=False),
        precision=MulticlassPrecision(classes, validate_args=False),
        recall=MulticlassRecall(classes, validate_args=False),
        f1=MulticlassF1Score(classes, validate_args=False),
    )
    if len(labels.unique()) < max(classes, 2) or len(labels) * classes > KEPT:
        return [told]
    return [told, Meter(_probabilities, roc_auc=MulticlassAUROC(classes, validate_args=False))]


def next_token(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of tokens; each place counts once."""
    accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
    return [Meter(_told, accuracy=accuracy), Meter(_in_full, perplexity=Perplexity())]


def regression(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of numbers; of R2 only if the test records' numbers differ.

    R2 is measured in standard deviations of the targets: torchmetrics takes sums of squares below 1e-4 for zero.
    """
    errors = Meter(_flat, rmse=MeanSquaredError(squared=False), mae=MeanAbsoluteError())
    spread, middle = torch.std_mean(labels.double(), correction=0)
    if not spread > 0:
        return [errors]
    shift, scale = float(middle), float(spread)
    return [errors, Meter(lambda *both: _scaled(_flat(*both), shift, scale), r2=R2Score())]


def reconstruction(labels: torch.Tensor, classes: int) -> list[Meter]:
    """Return the meters of what is to be rebuilt, of which each number is taken to lie in 0..1."""
    return [Meter(_flat, mse=MeanSquaredError(), psnr=PeakSignalNoiseRatio(data_range=1.0))]


METERS: dict[str, Callable[[torch.Tensor, int], list[Meter]]] = {
    "classification": classification,
    "next token": next_token,
    "regression": regression,
    "reconstruction": reconstruction,
}
"""Name of an objective to a function of (labels of all test records, number of classes): meters that are at zero."""


def _told(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.argmax(-1), targets


def _probabilities(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.softmax(-1), targets


def _in_full(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    """In float64, where a probability is zero only beyond e^-700."""
    return outputs.double(), targets


def _flat(outputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    return outputs.flatten().double(), targets.flatten().double()


def _scaled(both: Tensors, shift: float, scale: float) -> Tensors:
    outputs, targets = both
    return (outputs - shift) / scale, (targets - shift) / scale
