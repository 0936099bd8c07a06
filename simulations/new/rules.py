"""The rules by which `bract new` chooses a network and the numbers of a training, from public facts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...privacy import PlanError, make_plan
from ...privacy.plan.plan import Plan
from ...privacy.planning.forecast import WORKS, signal
from ..sizes import count_parameters

EPSILON = 8.0
STEP = 2.0
"""The learning rate times the clip norm. A step then moves the model by at most 2, whatever the scale of gradients.
Chosen on breast_cancer and on a heart disease table, where 1 to 8 differ by less than a point."""

CLIP = {"classes": 0.5, "numbers": 1.0}
BATCH, SMALL, EPOCHS, MOST_ROUNDS = 1000, 4000, 25, 400
"""A step samples a quarter of up to SMALL records, else BATCH records. There are at most MOST_ROUNDS rounds, else as
many as make EPOCHS passes over the records."""

SGD: dict[str, Any] = {"averaging": 0.95}
COUNTS_CLIP = 0.8
"""The clip norm of a text's counts, times the root of a record's length. It was chosen on four fifths of the training
records of Shakespeare's plays, where half to double of it differ by less than a point."""

LAYERED = 5000
"""The least records of a table for hidden layers. With fewer, a linear model did as well and varied less."""


@dataclass(frozen=True)
class Facts:
    """Public facts: the shape of a record, the classes (1: numbers to predict), training records, and clients."""

    shape: tuple[int, ...]
    classes: int
    records: int
    clients: int
    unit: str = "record"
    noise: str = "central"
    text: bool = False
    epsilon: float = EPSILON


def delta_of(units: int) -> float:
    """Return the largest power of ten that is at most 1 / (2 units), and at most 0.001.

    >>> delta_of(1415), delta_of(60_000)
    (0.0001, 1e-06)
    """
    return 10.0 ** min(-3, math.floor(math.log10(0.5 / units)))


def candidates(shape: tuple[int, ...], classes: int, records: int) -> list[str]:
    """Return the networks for such records, the most capable first.

    >>> candidates((1, 28, 28), 10, 1000), candidates((128, 6), 6, 8000), candidates((13,), 2, 900)
    (['scattering', 'logistic'], ['scattering-1d', 'logistic'], ['logistic'])
    """
    if classes == 1:
        return ["linear"]
    if len(shape) == 3 and min(shape[1:]) >= 8:
        return ["scattering", "logistic"]
    if len(shape) == 2 and shape[0] >= 16:
        return ["scattering-1d", "logistic"]
    return ["mlp", "logistic"] if records >= LAYERED else ["logistic"]


def training_of(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return all tables of a plan but [data], with the first network that the forecast accepts for these facts.

    The forecast compares the noise with an average update. If it accepts no network, the smallest is chosen. A text
    has one candidate, which predicts by shorter contexts where the noise hides longer ones.

    Raises:
        PlanError: no plan for these facts is accepted.
    """
    if facts.text:
        return _text_tables(facts)
    names = candidates(facts.shape, facts.classes, facts.records)
    for name in names:
        tables = _tables(facts, name)
        if name == names[-1] or _works(facts, tables):
            return tables
    raise PlanError("there is no network for these records", "write a plan by hand: docs/plan.md")


def _works(facts: Facts, tables: dict[str, dict[str, Any]]) -> bool:
    data = {"shape": list(facts.shape), "classes": facts.classes, "clients": facts.clients, "records": facts.records}
    plan = make_plan({"data": data, **tables}, Plan, "the proposed plan", _count)
    return signal(plan).ratio <= WORKS


def _count(name: str, shape: tuple[int, ...], classes: int) -> int:
    found = count_parameters(name, shape, classes)
    if found is None:
        raise PlanError(f"{name} takes no records of shape {list(shape)}", "write a plan by hand: docs/plan.md")
    return found


def _tables(facts: Facts, name: str) -> dict[str, dict[str, Any]]:
    clip = CLIP["numbers" if facts.classes == 1 else "classes"]
    rate = 0.25 if facts.records <= SMALL else BATCH / facts.records
    rounds = min(MOST_ROUNDS, max(100, round(EPOCHS / rate)))
    step = STEP / 2 if facts.classes == 1 else STEP
    return {
        "model": {"name": name},
        "training": {"batch_size": max(1, round(rate * facts.records)), "learning_rate": step / clip},
        "cohort": {"rounds": rounds, "size": facts.clients},
        **_privacy(facts, clip, rate),
        "server": SGD | {"evaluate_every": max(1, rounds // 20)},
    }


def _text_tables(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the tables of the n-gram model, whose whole training is one sum of all records' counts."""
    return {
        "model": {"name": "ngram"},
        "training": {"batch_size": facts.records},
        "cohort": {"rounds": 1, "size": facts.clients},
        **_privacy(facts, float(f"{COUNTS_CLIP * math.sqrt(facts.shape[0]):.3g}"), 1.0),
        "server": {"optimizer": "sgd", "learning_rate": 1.0},
    }


def _privacy(facts: Facts, clip: float, rate: float) -> dict[str, dict[str, Any]]:
    return {
        "privacy": {
            "unit": facts.unit,
            "noise": facts.noise,
            "epsilon": facts.epsilon,
            "delta": delta_of(facts.records),
            "clip_norm": clip,
            "sampling_rate": float(f"{rate:.3g}"),
        },
        **({"aggregation": {"protocol": "secagg"}} if facts.noise == "distributed" else {}),
    }
