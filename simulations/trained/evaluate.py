"""Evaluates a trained model on labelled records: per class, per client, which classes it confuses, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from ...client.records import check_records, make_records
from ...models import features_of, parts_of, read_flat
from ...server.evaluation.evaluate import make_evaluate
from ...server.evaluation.metrics import FIGURES, Score, score_of
from ..datasets import Table
from .names import class_names
from .run import Trained

BINS = 10
"""The number of equal intervals of confidence that calibration is measured in."""


@dataclass(frozen=True)
class ClassQuality:
    """One class: its number of records, and its figures; None where there is nothing to divide by."""

    name: str
    records: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClientQuality:
    """One client's quality: its name, its number of records, and the figure for comparing models over these
    records."""

    name: str
    records: int
    value: float | None


@dataclass(frozen=True)
class Bin:
    """The records with a confidence in an interval: their number, mean confidence, and the fraction that is right."""

    low: float
    high: float
    records: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """A model's quality on labelled records.

    `confusion[i][j]` counts the records of class i that were predicted as class j. `calibration_error` is the mean
    distance between confidence and accuracy, over records (Naeini et al. 2015). Both, and the figures by class, are
    for classification alone.
    """

    records: int
    loss: float | None
    figures: Mapping[str, float]
    classes: tuple[ClassQuality, ...] = ()
    clients: tuple[ClientQuality, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    calibration: tuple[Bin, ...] = ()
    calibration_error: float | None = None

    @property
    def score(self) -> Score | None:
        """The figure that compares models; None if it is not finite."""
        return score_of(self.figures)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""
        return asdict(self)


def evaluate(trained: Trained, table: Table) -> Evaluation:
    """Return the model's quality on labelled records.

    Raises:
        DataError: the records do not fit the plan.
    """
    plan = trained.plan
    check_records(make_records(table.features, table.labels, torch.device("cpu"), plan.data.transforms), plan)
    trained, table = _without_fixed_part(trained, table)
    found = make_evaluate(plan, table.features, table.labels, trained.network)(read_flat(trained.network))
    clients = _clients(trained, table)
    if trained.learns.name != "classification":
        return Evaluation(len(table), found.loss, dict(found.figures), clients=clients)
    chances = torch.cat(list(trained.outputs(table.features))).double().softmax(-1).numpy()
    predicted = chances.argmax(-1)
    confusion = np.zeros((plan.data.classes, plan.data.classes), np.int64)
    np.add.at(confusion, (table.labels, predicted), 1)
    bins = _bins(chances.max(-1), predicted == table.labels)
    return Evaluation(
        len(table),
        found.loss,
        dict(found.figures),
        _classes(confusion, class_names(plan)),
        clients,
        tuple(tuple(row) for row in confusion.tolist()),
        bins,
        _calibration_error(bins),
    )


def _without_fixed_part(trained: Trained, table: Table) -> tuple[Trained, Table]:
    """Return the trained part of a network and the fixed features of the records, which are then computed once."""
    fixed, head = parts_of(trained.network)
    if fixed is None or trained.learns.name == "reconstruction":  # whose records are what outputs are compared with
        return trained, table
    device = next(head.parameters()).device
    features = features_of(fixed, torch.from_numpy(table.features).to(device)).cpu().numpy()
    return replace(trained, network=head), replace(table, features=features)


def _classes(confusion: np.ndarray, names: tuple[str, ...]) -> tuple[ClassQuality, ...]:
    """Return the figures of each class.

    >>> _classes(np.array([[3, 1], [0, 0]]), ("a", "b"))[0]
    ClassQuality(name='a', records=4, precision=1.0, recall=0.75, f1=0.8571428571428571)
    """
    found, named, right = confusion.sum(1).tolist(), confusion.sum(0).tolist(), confusion.diagonal().tolist()

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    return tuple(
        ClassQuality(name, records, share(hits, guesses), share(hits, records), share(2 * hits, records + guesses))
        for name, records, guesses, hits in zip(names, found, named, right, strict=True)
    )


def _clients(trained: Trained, table: Table) -> tuple[ClientQuality, ...]:
    if table.clients is None:
        return ()
    vector, found = read_flat(trained.network), []
    for client in np.unique(table.clients).tolist():
        own = table.select(np.flatnonzero(table.clients == client))
        score = make_evaluate(trained.plan, own.features, own.labels, trained.network)(vector).score
        found.append(ClientQuality(str(client), len(own), score.value if score else None))
    return tuple(found)


def _bins(confidence: np.ndarray, right: np.ndarray) -> tuple[Bin, ...]:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        here = place == number
        filled = bool(here.any())
        sure, share = (float(values[here].mean()) if filled else None for values in (confidence, right))
        found.append(Bin(number / BINS, (number + 1) / BINS, int(here.sum()), sure, share))
    return tuple(found)


def _calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the mean over records of |confidence - accuracy| of their interval.

    >>> _calibration_error((Bin(0.8, 0.9, 3, 0.85, 0.75), Bin(0.9, 1.0, 1, 0.95, 0.95)))
    0.07499999999999998
    """
    apart = [
        b.records * abs(b.confidence - b.accuracy)
        for b in bins
        if b.confidence is not None and b.accuracy is not None
    ]
    return sum(apart) / max(1, sum(b.records for b in bins))


def lines(found: Evaluation) -> list[str]:
    """Return the evaluation as lines for a terminal."""
    said = [f"records     {found.records:,}"]
    said += [f"{FIGURES[key].name:<11} {FIGURES[key].show(value)}" for key, value in found.figures.items()]
    if found.calibration_error is not None:
        said.append(f"calibration {found.calibration_error:.3f} between confidence and accuracy, on average")
    if found.classes:
        said += ["", f"{'class':<20} {'records':>8} {'precision':>9} {'recall':>7}  confused with"]
        said += [_class_line(number, one, found) for number, one in enumerate(found.classes)]
    if found.clients and found.score:
        said += ["", f"{'client':<20} {'records':>8} {found.score.figure.name}"]
        shown = found.score.figure.show
        said += [
            f"{one.name:<20} {one.records:>8,} {'-' if one.value is None else shown(one.value)}"
            for one in found.clients
        ]
    return said


def _class_line(number: int, one: ClassQuality, found: Evaluation) -> str:
    wrong = {place: count for place, count in enumerate(found.confusion[number]) if place != number and count}
    most = max(wrong, key=lambda place: wrong[place], default=None)
    confused = "nothing" if most is None else f"{found.classes[most].name} ({wrong[most]:,})"
    precision, recall = ("-" if share is None else f"{share:.1%}" for share in (one.precision, one.recall))
    return f"{one.name:<20} {one.records:>8,} {precision:>9} {recall:>7}  {confused}"
