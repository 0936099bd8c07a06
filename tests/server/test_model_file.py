"""The model that a run leaves."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from bract.models import build, read_flat
from bract.privacy import Plan, StorageError
from bract.server.model_file import load_model, write_model
from bract.server.state import ServerState

Make = Callable[..., Plan]


def state(seed: int = 0) -> ServerState:
    rng = np.random.default_rng(seed)
    parameters, model = (rng.normal(size=15).astype(np.float32) for _ in range(2))
    return ServerState(3, parameters, model, {}, "head", "digest")


def test_the_kept_model_is_read_back_to_the_last_bit(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, make(), state())
    assert read_flat(load_model(path, make())).tobytes() == state().model.tobytes()


def test_the_written_model_is_the_average(make: Make, tmp_path: Path) -> None:
    """And not the last step."""
    path = tmp_path / "model.safetensors"
    write_model(path, make(), state())
    assert not np.array_equal(read_flat(load_model(path, make())), state().parameters)


def test_the_cnn_is_written_and_read_back(make: Make, tmp_path: Path) -> None:
    plan, path = make(model={"name": "cnn"}, data={"shape": [1, 10, 10]}), tmp_path / "model.safetensors"
    count = len(read_flat(build("cnn", (1, 10, 10), 3)))
    model = np.random.default_rng(0).normal(size=count).astype(np.float32)
    write_model(path, plan, ServerState(1, model, model, {}, "", ""))
    assert np.array_equal(read_flat(load_model(path, plan)), model)


def test_the_file_says_by_which_plan_and_round_it_was_made(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, make(), state())
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == ["1.bias", "1.weight"]
    assert list(metadata) == ["bract"]
    assert json.loads(metadata["bract"]) == {"plan": make().public(), "round": 3}


def test_any_reader_of_safetensors_gets_the_networks_shapes(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, make(), state())
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["1.weight"]["shape"] == [3, 4]
    assert header["1.bias"]["shape"] == [3]
    assert {header[name]["dtype"] for name in ("1.weight", "1.bias")} == {"F32"}


def test_a_full_disk_leaves_the_old_model(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, make(), state())
    before = path.read_bytes()

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bract.privacy.storage.write_all", full)
    with pytest.raises(StorageError):
        write_model(path, make(), state(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_parameters_of_another_network_are_refused(make: Make, tmp_path: Path) -> None:
    """Before anything is written."""
    path, other = tmp_path / "model.safetensors", np.zeros(16, dtype=np.float32)
    with pytest.raises(ValueError, match="expected 15 parameters"):
        write_model(path, make(), ServerState(1, other, other, {}, "", ""))
    assert not path.exists()
