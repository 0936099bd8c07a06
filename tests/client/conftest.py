"""What the tests of the client share: a network of 51 parameters, small plans, small records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from bract.client import train
from bract.client.records import Records
from bract.models import MODELS
from bract.privacy import Plan, make_plan

SHAPE, CLASSES = (1, 2, 2), 3


def tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 6), nn.Tanh(), nn.Linear(6, classes))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are faster on one thread, and leave the other cores to other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`model.name = "tiny"` is known, and no engine is kept from one test to the next."""
    monkeypatch.setitem(MODELS, "tiny", tiny)
    train._engine.cache_clear()
    yield
    train._engine.cache_clear()


@pytest.fixture
def make() -> Callable[..., Plan]:
    """A function: a plan over records of 1x2x2 and 3 classes, with keys such as `privacy={"noise": "central"}`."""

    def plan(**tables: dict[str, Any]) -> Plan:
        sections: dict[str, dict[str, Any]] = {
            "data": {"shape": list(SHAPE), "classes": CLASSES, "clients": 2},
            "model": {"name": "tiny"},
            "training": {"batch_size": 8, "learning_rate": 0.5},
            "cohort": {"rounds": 4, "size": 1},
            "privacy": {
                "noise": "local",
                "epsilon": 8.0,
                "delta": 1e-3,
                "sampling_rate": 0.5,
                "noise_multiplier": 3.0,
            },
        }
        return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)

    return plan


@pytest.fixture
def sample() -> Callable[..., Records]:
    """A function: random records, `sample(count, seed=0, scale=1.0)`."""

    def records(count: int, seed: int = 0, scale: float = 1.0) -> Records:
        generator = torch.Generator().manual_seed(seed)
        features = scale * torch.randn(count, *SHAPE, generator=generator)
        return Records(features, torch.randint(0, CLASSES, (count,), generator=generator))

    return records
