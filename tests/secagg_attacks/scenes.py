"""Small plans of all cells and both modes, and worlds of devices under them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from lying_server import World

from bract.client.disk.step_journal import Journal, MemoryJournal
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.privacy import Contribution, Plan, make_plan

SHAPE, CLASSES, COUNT = (2,), 2, 6
CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("local", "distributed", "central")]
MODES = ["malicious-server", "semi-honest"]
SIZES = [4, 5, 6, 7, 8, 10]
"""Planned cohorts, of which c = 1, 1, 1, 2, 2 and 3 collude."""


@lru_cache(maxsize=256)
def plan_of(
    size: int,
    mode: str,
    unit: str = "record",
    noise: str = "local",
    number: int = 0,
    minimum: int = 2,
    **shares: float,
) -> Plan:
    """A plan under masks for a cohort of so many; of plans that differ in their number alone all differ a little.

    `shares` are those of colluders and dropouts, if other than the default.
    """
    return make_plan(
        {
            "data": {"shape": list(SHAPE), "classes": CLASSES, "clients": size},
            "model": {"name": "logistic", "parameters": COUNT},
            "training": {"batch_size": 8, "learning_rate": 0.5},
            "cohort": {"rounds": 6 + number, "size": size, "minimum": minimum},
            "privacy": {
                "unit": unit,
                "noise": noise,
                "epsilon": 8.0,
                "delta": 1e-3,
                "sampling_rate": 0.5 if unit == "record" else 1.0,
                "noise_multiplier": 3.0,
            },
            "aggregation": {"protocol": "secagg", "mode": mode, "deadline": 60.0, **shares},
        },
        Plan,
    )


@lru_cache(maxsize=32)
def records_of(place: int) -> Records:
    """Six records of a device, each device's its own."""
    generator = torch.Generator().manual_seed(place)
    return Records(torch.randn(6, *SHAPE, generator=generator), torch.arange(6) % CLASSES)


def some_vector(task: Task) -> Contribution:
    """What stands in for training: numbers that nobody can guess, as large as the ring takes."""
    most = task.mechanism.grid.ring.bound(task.plan.cohort.size)
    rng = np.random.default_rng()
    return Contribution(rng.integers(-most, most, task.mechanism.coordinates(COUNT), dtype=np.int64, endpoint=True))


def terms_of(**more: Any) -> Terms:
    """Terms under which a device takes part in all of these plans, in many runs a day."""
    return Terms(max_epsilon=1e6, trusted_server=True, max_refused_runs_a_day=1000, max_plans_a_day=1000, **more)


def world_of(
    *plans: Plan,
    honest: int,
    real: bool = False,
    terms: Terms | None = None,
    journal: Callable[[int], Journal] = lambda _: MemoryJournal(),
    stride: int = 3,
) -> World:
    """So many honest devices, and as many colluders as the plans withstand; if `real`, they train on records."""
    [colluders] = {plan.colluders for plan in plans}
    return World(
        list(plans),
        honest,
        colluders,
        terms or terms_of(),
        contribution if real else some_vector,
        records_of,
        np.zeros(COUNT, dtype=np.float32),
        journal,
        stride,
    )
