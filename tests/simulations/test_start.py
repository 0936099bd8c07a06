"""A simulation starts from a file of weights, in every cell: what is frozen never moves, and the file is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bract.cli.main import run
from bract.models import start
from bract.privacy import PlanError, override, read_tables
from bract.server.app import _mechanism
from bract.simulations.run import simulate
from bract.simulations.study import Study, anchor, make_study, read_run
from bract.simulations.trained.run import read_trained

CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("central", "local", "distributed")]


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(anchor(override(read_tables(plan), settings), plan, ()))


@pytest.fixture
def weights(tiny_plan: Path, tmp_path: Path) -> Path:
    """A file of weights that a run over the tiny data wrote, in the folder of its plan."""
    simulate(study_of(tiny_plan, "cohort.rounds=1"), tmp_path / "first")
    return (tmp_path / "first" / "model.safetensors").rename(tmp_path / "start.safetensors")


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_what_is_frozen_never_moves_in_any_cell(cell: tuple[str, str], weights: Path, tiny_plan: Path) -> None:
    unit, noise = cell
    how = [f"privacy.unit={unit}", f"privacy.noise={noise}", "model.weights=start.safetensors"]
    how += ["aggregation.protocol=secagg"] if noise == "distributed" else []
    how += ["privacy.sampling_rate=1", "privacy.delta=1e-3"] if unit == "client" else []
    frozen = 'model.frozen=["0.*", "3.*", "7.weight"]'
    study = study_of(tiny_plan, *how, frozen)
    folder = tiny_plan.parent / "run"
    simulate(study, folder)
    card = (folder / "model.md").read_text()
    assert f"started from the weights with SHA-256 `{study.model.weights_digest}`" in card
    assert "Not trained is `0.*`, `3.*`, `7.weight`." in card
    assert "The records behind the start." in (folder / "report.html").read_text()
    before, after = load_file(weights), load_file(folder / "model.safetensors")
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {"0.weight", "0.bias", "3.weight", "3.bias", "7.weight"}
    trained = sum(tensor.numel() for name, tensor in before.items() if name not in kept)
    assert study.model.parameters == trained


def test_adapters_predict_the_same_after_reload_without_the_file(weights: Path, tiny_plan: Path) -> None:
    folder = tiny_plan.parent / "run"
    simulate(study_of(tiny_plan, "model.weights=start.safetensors", "model.adapters=2"), folder)
    assert any(tensor.any() for name, tensor in load_file(folder / "model.safetensors").items() if ".up." in name)
    x = torch.from_numpy(np.load(tiny_plan.parent / "tiny.npz")["x"]).float()[:5]
    expected = read_trained(folder).network(x)
    weights.unlink()
    code = f"""
import json, sys, numpy, torch
from pathlib import Path
from bract.simulations.trained.run import read_trained
x = torch.from_numpy(numpy.load({str(tiny_plan.parent / "tiny.npz")!r})["x"]).float()[:5]
print(json.dumps(read_trained(Path({str(folder)!r})).network(x).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), expected, atol=1e-6)
    start._KEPT.clear()
    assert run(["evaluate", str(folder), str(tiny_plan.parent / "tiny.npz")]) == 0
    assert run(["export", str(folder), "--torch", str(tiny_plan.parent / "out.pt2")]) == 0


def test_the_path_is_no_part_of_the_digest(weights: Path, tiny_plan: Path) -> None:
    one = study_of(tiny_plan, "model.weights=start.safetensors")
    (tiny_plan.parent / "other.safetensors").write_bytes(weights.read_bytes())
    other = study_of(tiny_plan, "model.weights=other.safetensors")
    assert one.digest == other.digest
    assert "safetensors" not in one.offered()
    assert one.digest != study_of(tiny_plan).digest


def test_a_file_that_changed_is_refused_when_a_run_goes_on(weights: Path, tiny_plan: Path) -> None:
    folder = tiny_plan.parent / "run"
    simulate(study_of(tiny_plan, "model.weights=start.safetensors", "model.adapters=2"), folder)
    again = load_file(weights)
    again["0.bias"] += 1
    from safetensors.torch import save_file

    save_file(again, weights)
    with pytest.raises(PlanError, match="not the ones whose digest"):
        read_run(folder)


def test_another_networks_file_is_refused_before_any_round(
    weights: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ["--set", f"model.weights={weights}", "--set", "model.name=mlp", "--out", str(tiny_plan.parent / "run")]
    assert run(["simulate", str(tiny_plan), *how]) == 2
    said = capsys.readouterr().err
    assert "the file of the weights holds" in said
    assert "model.fresh" in said
    assert not (tiny_plan.parent / "run").exists()


@pytest.mark.parametrize("key", ["model.adapters=2", 'model.frozen=["0.*"]', 'model.fresh=["0.*"]'])
def test_what_changes_a_start_needs_a_file(key: str, tiny_plan: Path) -> None:
    with pytest.raises(PlanError, match=r"needs model\.weights"):
        study_of(tiny_plan, key)


def test_workers_of_a_sweep_and_a_budget_read_it(
    weights: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_plan.write_text(
        tiny_plan.read_text() + '\n[model]\nweights = "start.safetensors"\nadapters = 2\nfresh = ["9.*"]\n'
    )
    out = str(tiny_plan.parent / "sweep")
    assert (
        run(["sweep", str(tiny_plan), "--over", "cohort.rounds=1,2", "--seeds", "1", "--jobs", "2", "--out", out])
        == 0
    )
    capsys.readouterr()
    assert run(["budget", str(tiny_plan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_server_reads_the_file_beside_its_plan(weights: Path, tiny_plan: Path) -> None:
    how = ["model.weights=start.safetensors", "model.adapters=2", "privacy.noise=central", "aggregation.protocol=sum"]
    plan = tiny_plan.parent / "deployed.toml"
    text = study_of(tiny_plan, *how).to_toml()
    plan.write_text(text)
    assert _mechanism(plan).plan.model.start is not None
    digest = start.keep_weights(weights)
    for change, what in [
        (lambda: plan.write_text(text.replace(digest, "0" * 64)), "not the ones whose digest"),
        (lambda: plan.write_text(text.replace("start.safetensors", "gone.safetensors")), "cannot read the weights"),
        (lambda: plan.write_text(text.replace('weights = "start.safetensors"\n', "")), "does not name the file"),
        (lambda: plan.write_text(text.replace(f'weights_digest = "{digest}"\n', "")), "weights_digest is missing"),
    ]:
        change()
        with pytest.raises(PlanError, match=what):
            _mechanism(plan)
