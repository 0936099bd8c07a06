"""A trained run over small pictures, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run


def pictures(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images 1x12x12 of 3 classes that differ in brightness, and their 6 clients."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(seed).normal(size=(count, 1, 12, 12)) / 4
    return (noise + labels[:, None, None, None]).astype(np.float32), labels, np.repeat(np.arange(6), count // 6)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learns to tell the classes apart."""
    folder = tmp_path_factory.mktemp("trained")
    x, y, client = pictures(0)
    np.savez(folder / "data.npz", x=x, y=y, client=client)
    (folder / "plan.toml").write_text(f"""
[data]
name = "files"
path = "{folder}/data.npz"
clients = 5
shape = [1, 12, 12]
classes = 3
[training]
batch_size = 25
learning_rate = 0.3
[cohort]
rounds = 20
size = 5
[privacy]
epsilon = 50.0
sampling_rate = 0.5
delta = 0.001
""")
    assert run(["simulate", str(folder / "plan.toml"), "--seed", "1", "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """An .npz of records that the run has not seen, with labels and clients."""
    x, y, client = pictures(1, 30)
    np.savez(tmp_path / "fresh.npz", x=x, y=y, client=client)
    return tmp_path / "fresh.npz"
