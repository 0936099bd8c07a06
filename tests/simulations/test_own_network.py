"""A network that a user keeps beside the plan is trained as one that comes with bract."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bract.cli.main import run
from bract.client.clipping.engine import make_engine
from bract.client.records import Records
from bract.models import build, load_flat, read_flat
from bract.models.own import find_own
from bract.server.model_file import load_model
from bract.server.state import read_checkpoint
from bract.simulations.study import read_run
from tests.helpers.by_autograd import looped_sum

NETS = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(2, channels)
    def forward(self, x):
        return x + torch.nn.functional.silu(self.norm(self.conv(x)))

def build(shape, classes):
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2), Residual(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, classes),
    )
"""
COUNT = 40 + 148 + 8 + 51
CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("local", "central", "distributed")]


@pytest.fixture
def plan(tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plan in a folder of its own, with the module `wards_nets` beside it; the current folder is another one."""
    folder, here = tmp_path / "study", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "wards_nets.py").write_text(NETS)
    path = folder / "plan.toml"
    path.write_text(tiny_plan.read_text() + '[model]\nname = "wards_nets:build"\n')
    find_own.cache_clear()
    yield path
    sys.modules.pop("wards_nets", None)
    find_own.cache_clear()


def typed(*words: object) -> int:
    return run([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a refused command says, in two lines."""
    assert typed(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "\nhint: " in said
    assert "Traceback" not in said
    return " ".join(said.split())


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_trains_in_every_cell_and_predicts_the_same_after_reload(cell: tuple[str, str], plan: Path) -> None:
    unit, noise = cell
    words = [f"privacy.unit={unit}", f"privacy.noise={noise}"]
    words += ["aggregation.protocol=secagg"] if noise == "distributed" else []
    words += ["privacy.sampling_rate=1"] if unit == "client" else []
    settings = [part for word in words for part in ("--set", word)]
    assert typed("simulate", plan, "--out", "run", "--quiet", *settings) == 0
    study, state = read_run(Path("run")), read_checkpoint(Path("run/checkpoint.bract"))
    assert state is not None
    assert study.parameters == COUNT == len(state.model)
    model = build(study.model.name, study.data.shape, study.data.classes)
    load_flat(model, state.model)
    records = torch.randn(5, *study.data.shape)
    assert torch.equal(load_model(Path("run/model.safetensors"), study)(records), model(records))


def test_its_clipped_sums_are_those_of_a_loop_over_records(plan: Path) -> None:
    sys.path.append(str(plan.parent))
    model = build("wards_nets:build", (1, 12, 12), 3, seed=0)
    records = Records(torch.randn(9, 1, 12, 12), torch.arange(9) % 3)
    looped = looped_sum(model, records, 0.5)
    assert np.abs(make_engine(model, 0.5).clipped_sum(records) - looped).max() < 1e-5 * np.linalg.norm(looped)


def test_a_finished_run_is_read_from_any_folder(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("simulate", plan, "--out", tmp_path / "run", "--quiet") == 0
    sys.modules.pop("wards_nets")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(plan.parent)])
    find_own.cache_clear()
    monkeypatch.chdir("/")
    assert typed("simulate", "--resume", tmp_path / "run", "--quiet") == 0


def test_workers_of_a_sweep_find_it(plan: Path) -> None:
    words = ["--over", "privacy.epsilon=4,8", "--seeds", 1, "--jobs", 2, "--out", "sweep", "--quiet"]
    assert typed("sweep", plan, *words) == 0
    assert len(list(Path("sweep").rglob("model.safetensors"))) == 2


def test_its_parameters_are_counted_for_a_budget(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("budget", plan, "--set", "privacy.noise=distributed", "--set", "aggregation.protocol=secagg") == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_that_is_typed_is_found_in_the_current_folder(plan: Path) -> None:
    Path("here_nets.py").write_text(NETS)
    assert typed("simulate", plan, "--set", "model.name=here_nets:build", "--out", "run", "--quiet") == 0


@pytest.mark.parametrize("command", ["simulate", "budget"])
def test_a_name_of_python_is_as_harmless_as_a_typing_error(
    command: str, plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("a command is run"))
    assert "part of Python" in refused(capsys, command, plan, "--set", "model.name=os:system")
    assert "no module nowhere" in refused(capsys, command, plan, "--set", "model.name=nowhere:build")
    assert not list(Path().iterdir())


def test_another_module_of_the_same_name_is_not_taken_for_it(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "wards_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert "the module wards_nets is" in refused(capsys, "simulate", plan)


def test_batch_norm_is_refused_by_name(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plan.parent / "batch_nets.py").write_text(NETS.replace("nn.GroupNorm(2, channels)", "nn.BatchNorm2d(channels)"))
    plan.write_text(plan.read_text().replace("wards_nets", "batch_nets"))
    for unit, rate in (("record", 0.5), ("client", 1)):
        how = [f"privacy.unit={unit}", f"privacy.sampling_rate={rate}", "privacy.noise=central"]
        said = refused(capsys, "simulate", plan, *[part for word in how for part in ("--set", word)])
        assert "the layer 1.norm (BatchNorm2d) mixes the records of a batch; use nn.GroupNorm" in said


def test_terms_are_checked_before_it_is_looked_up(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = Path("imported").resolve()
    (plan.parent / "wards_nets.py").write_text(f"open({str(mark)!r}, 'w').close()\n{NETS}")
    sys.path.append(str(plan.parent))
    Path("terms.toml").write_text("")
    os.chmod("terms.toml", 0o600)
    assert "does not come with bract" in refused(capsys, "terms", "check", "terms.toml", plan)
    assert not mark.exists()


def test_its_weights_are_a_function_of_the_seed(plan: Path) -> None:
    sys.path.append(str(plan.parent))
    one, other = (read_flat(build("wards_nets:build", (1, 12, 12), 3, seed=4)) for _ in range(2))
    assert np.array_equal(one, other)
