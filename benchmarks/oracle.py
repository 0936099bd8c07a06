"""A device's time for a round with and without one more record: an observer's clock should not distinguish them.

Both devices train the same plan in turn. The second one has one more record: a usual one, one with a label outside
the plan, or one with values that are not finite. A gap is the difference of the median times, divided by the spread
of the first device's times.
"""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any

import numpy as np
import torch
from _bars import Bar, arguments, options_of, show

from bract.client.records import Records, fitting, torch_device
from bract.client.train import Task, contribution, try_training
from bract.models import build, read_flat
from bract.privacy import Plan, SystemEntropy, make_plan, mechanism_of
from bract.simulations import machine

RECORDS = 300
CASES: tuple[tuple[str, list[int], str, str], ...] = (
    ("cnn", [1, 28, 28], "record", "auto"),
    ("cnn", [1, 28, 28], "record", "opacus"),
    ("cnn", [1, 28, 28], "client", "auto"),
    ("mlp", [1, 28, 28], "record", "auto"),
    ("lstm", [28, 28], "record", "auto"),
)


def plan_of(name: str, shape: list[int], unit: str, engine: str) -> Plan:
    """Return a plan of one device, with a batch size that fits its number of records."""
    rate = 1.0 if unit == "client" else 0.2
    tables: dict[str, dict[str, Any]] = {
        "data": {"shape": shape, "classes": 10, "clients": 1},
        "model": {"name": name},
        "training": {"batch_size": 60, "engine": engine},
        "cohort": {"size": 1, "rounds": 2},
        "privacy": {
            "unit": unit,
            "noise": "central",
            "sampling_rate": rate,
            "noise_multiplier": 50.0,
            "epsilon": 1e6,
        },
    }
    return make_plan(tables, Plan)


def people(shape: list[int], count: int) -> Records:
    """Return `count` random records."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, *shape, generator=generator)
    return Records(features.to(torch_device()), (torch.arange(count) % 10).to(torch_device()))


def neighbours(shape: list[int]) -> dict[str, Records]:
    """Return a device's records, and for each kind of record the same records with one more."""
    made = {"none": people(shape, RECORDS)} | {
        kind: people(shape, RECORDS + 1) for kind in ("one more", "unknown label", "not finite")
    }
    made["unknown label"].labels[-1] = 10
    made["not finite"].features[-1] = np.nan
    return made


def timed(plan: Plan, records: Records, parameters: np.ndarray) -> float:
    """Return the seconds of a round, from the records to the contribution."""
    began = time.perf_counter()
    task = Task(mechanism_of(plan), parameters, fitting(records, plan), SystemEntropy().keystream)
    contribution(task)
    return time.perf_counter() - began


def gaps(plan: Plan, repeats: int) -> dict[str, float]:
    """Return, for each kind of record, the change of the median time, in spreads of the time without that record."""
    parameters = read_flat(build(plan.model.name, plan.data.shape, plan.data.classes, seed=0))
    made, times = neighbours(list(plan.data.shape)), dict[str, list[float]]()
    for _ in range(repeats):
        for kind, records in made.items():
            times.setdefault(kind, []).append(timed(plan, records, parameters))
    spread = max(_spread(times["none"]), 1e-9)
    middle = statistics.median(times["none"])
    return {kind: (statistics.median(found) - middle) / spread for kind, found in times.items() if kind != "none"}


def _spread(values: list[float]) -> float:
    """Return half of the interquartile range."""
    first, _, last = np.percentile(values, [25, 50, 75])
    return float(last - first) / 2


def main() -> None:
    """Time all cases in turn."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--cases", type=int, default=len(CASES))
    options = options_of(parser, repeats=2, cases=2)
    machine.settle()
    logging.getLogger("bract.client").setLevel(logging.ERROR)
    rows, worst = [], 0.0
    for case in CASES[: options.cases]:
        plan = plan_of(*case)
        try_training(plan)
        found = gaps(plan, options.repeats)
        worst = max(worst, *map(abs, found.values()))
        rows.append({"network": case[0], "unit": case[2], "engine": case[3], **found})
    show(rows, [Bar("largest gap, in spreads", worst, 2.0)], options)


if __name__ == "__main__":
    main()
