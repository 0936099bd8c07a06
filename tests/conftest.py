"""What all tests share: small data, small plans, and a machine that phones nobody.

Machines are shared, so no example of a property test has a deadline, and torch takes one thread: tests themselves run
on all cores. CI tries the same examples each time, so that its verdict on a commit does not change; other runs seek
new ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("shared-machine", settings(deadline=None, derandomize="CI" in os.environ))
settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that take longest start first, so that no core waits for the other's last one."""
    long = {name: place for place, name in enumerate(("full", "e2e"))}
    items.sort(
        key=lambda item: min((long[mark.name] for mark in item.iter_markers() if mark.name in long), default=2)
    )


@pytest.fixture(autouse=True)
def no_network_of_another_test() -> None:
    """Networks are kept by name and shape from round to round; tests give one name to several."""
    for name, kept in (("bract.client.train", "_engine"), ("bract.client.local_sgd", "_network")):
        if module := sys.modules.get(name):
            getattr(module, kept).cache_clear()


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """An .npz of 60 random 12x12 images of 3 classes that belong to 6 clients."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.normal(size=(60, 1, 12, 12)).astype(np.float32) + labels[:, None, None, None]
    path = tmp_path / "tiny.npz"
    np.savez(path, x=images.astype(np.float32), y=labels, client=np.repeat(np.arange(6), 10))
    return path


@pytest.fixture
def made_for() -> Callable[[str, tuple[int, ...], int], tuple[Any, ...]]:
    """A function of a network's name, a shape and a count: the network, and as many features and targets for it."""

    def make(name: str, shape: tuple[int, ...], count: int) -> tuple[Any, ...]:
        import torch

        from bract.models import build, objective_of

        generator, learns = torch.Generator().manual_seed(0), objective_of(name, shape)
        classes = 1 if name == "linear" else 10
        features, labels = torch.randn(count, *shape, generator=generator), torch.arange(count) % classes
        if learns.name == "next token":
            features, labels = torch.randint(classes, (2, count, *shape), generator=generator)
        return build(name, shape, classes, seed=0), features, learns.targets(features, labels)

    return make


@pytest.fixture
def tiny_plan(tiny_data: Path, tmp_path: Path) -> Path:
    """A plan over `tiny_data` that trains three rounds within a second or two."""
    path = tmp_path / "tiny.toml"
    path.write_text(f"""
[data]
name = "files"
path = "{tiny_data}"
split = "natural"
clients = 5
shape = [1, 12, 12]
classes = 3

[training]
batch_size = 25

[cohort]
rounds = 3
size = 5

[privacy]
epsilon = 8.0
delta = 1e-3
sampling_rate = 0.5

[simulation]
seed = 7
""")
    return path
