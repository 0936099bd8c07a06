"""Folders and files that a command is given: what is written over, who may read it, and what can be gone on with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run

from .conftest import Refused

SECURE = ["--set", "aggregation.protocol=secagg", "--set", "aggregation.colluders=0.2"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def readable_by_others(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077}


@pytest.fixture
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_partition_writes_over_nothing(tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "shards"
    assert run(["partition", str(tiny_plan), "--out", str(out), *SECURE]) == 0
    before = content(out)
    assert "is not empty" in refused("partition", tiny_plan, "--out", out, *SECURE)
    assert content(out) == before


@pytest.mark.usefixtures("open_umask")
def test_records_and_keys_of_a_partition_are_their_owners_alone(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert run(["partition", str(tiny_plan), "--out", str(out), *SECURE]) == 0
    assert readable_by_others(out) == {"plan.toml", "roster.toml"}


@pytest.mark.usefixtures("open_umask")
def test_the_tries_of_a_private_selection_are_their_owners_alone(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    out.mkdir()
    over = ["--over", "training.learning_rate=0.5,1", "--set", "cohort.rounds=1", "--jobs", "1", "--quiet"]
    assert run(["sweep", str(tiny_plan), *over, "--select", "private", "--out", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "sweep.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize("verb", ["simulate", "partition", "sweep"])
def test_a_file_for_a_folder_is_called_a_file(verb: str, tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert f"{file} is a file" in refused(verb, tiny_plan, "--out", file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("verb", ["simulate", "sweep"])
def test_a_file_or_nothing_cannot_be_gone_on_with(verb: str, tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "plan.toml"
    file.write_text("")
    assert f"{file} is a file" in refused(verb, "--resume", file)
    assert f"{tmp_path}/gone is not there" in refused(verb, "--resume", tmp_path / "gone")


def test_a_partition_is_not_taken_for_a_run_to_go_on_with(tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "shards"
    assert run(["partition", str(tiny_plan), "--out", str(out)]) == 0
    before = content(out)
    assert "holds no simulation" in refused("simulate", "--resume", out)
    assert content(out) == before


def test_a_simulation_does_not_go_on_with_a_deployments_folder(
    tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    """Its ledger and its checkpoint are those of real devices."""
    from bract.privacy import Plan, make_plan, read_tables

    tables = read_tables(tiny_plan)
    del tables["simulation"]
    out = tmp_path / "server"
    out.mkdir()
    (out / "plan.toml").write_text(make_plan(tables, Plan).to_toml())
    assert "deployment" in refused("simulate", "--resume", out)
    assert set(content(out)) == {"plan.toml"}


def test_runs_and_sweeps_name_the_verb_that_goes_on_with_them(
    tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    less = ["--set", "cohort.rounds=1", "--quiet"]
    assert run(["simulate", str(tiny_plan), "--out", str(one), *less]) == 0
    assert run(["sweep", str(tiny_plan), "--out", str(many), "--jobs", "1", *less]) == 0
    assert f"bract simulate --resume {one}" in refused("sweep", "--resume", one)
    assert f"bract sweep --resume {many}" in refused("simulate", "--resume", many)


@pytest.mark.parametrize("name", ["plot.txt", "plot", "plot.png", "plot.html.txt"])
def test_a_budget_page_is_named_for_what_it_is(name: str, tmp_path: Path, refused: Refused) -> None:
    assert "HTML" in refused("budget", "--plot", tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["simulate", "sweep", "budget", "partition"])
def test_a_mistyped_plan_is_answered_with_the_nearest_name(verb: str, tmp_path: Path, refused: Refused) -> None:
    out = [] if verb == "budget" else ["--out", tmp_path / "out"]
    assert "did you mean digits-central-eps8?" in refused(verb, "digits-centrl-eps8", *out)
    assert "there is no plan file" in refused(verb, tmp_path / "digits-central-eps8x.toml", *out)


def test_too_few_natural_clients_are_answered_with_what_to_set(
    tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    out = ["--out", tmp_path / "out"]
    said = refused("simulate", tiny_plan, *out, "--set", "data.clients=4", "--set", "cohort.size=4")
    assert "set data.clients = 5" in said
    assert "remove" not in said
    again = ["--set", "data.clients=5", "--set", "cohort.size=4", "--set", "cohort.rounds=1", "--quiet"]
    assert run(["simulate", str(tiny_plan), *map(str, out), *again]) == 0


def relative(plan: Path) -> Path:
    """The plan in a folder of its own, which names its data from there."""
    folder = plan.parent / "study"
    folder.mkdir()
    moved = folder / "mine.toml"
    data = (plan.parent / "tiny.npz").rename(folder / "tiny.npz")
    moved.write_text(plan.read_text().replace(str(plan.parent / "tiny.npz"), data.name))
    return moved


def test_data_are_found_from_the_plans_folder(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found again from any other folder."""
    plan, out = relative(tiny_plan), tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    assert run(["simulate", str(plan.relative_to(tmp_path)), "--out", str(out), "--quiet"]) == 0
    before = content(out)
    (out / "checkpoint.bract").unlink()  # as if nothing had been finished yet
    (out / "ledger.jsonl").unlink()
    (out / "elsewhere").mkdir()
    monkeypatch.chdir(out / "elsewhere")
    assert run(["simulate", "--resume", str(out), "--quiet"]) == 0
    assert content(out)["model.safetensors"] == before["model.safetensors"]


def test_a_typed_path_starts_from_the_current_folder(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    plan = relative(tiny_plan)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert f"{here}/tiny.npz does not exist" in refused("simulate", plan, "--set", "data.path=tiny.npz")
    (plan.parent / "tiny.npz").rename(here / "own.npz")
    less = ["--set", "cohort.rounds=1", "--quiet"]
    assert run(["simulate", str(plan), "--set", "data.path=own.npz", *less]) == 0
    assert run(["sweep", str(plan), "--over", "data.path=own.npz", "--jobs", "1", *less]) == 0
    assert run(["partition", str(plan), "--set", "data.path=own.npz", "--out", "shards"]) == 0


def test_where_the_data_lie_is_in_nothing_that_is_published(tiny_plan: Path, tmp_path: Path) -> None:
    plan, out, shards = relative(tiny_plan), tmp_path / "run", tmp_path / "shards"
    assert run(["simulate", str(plan), "--out", str(out), "--quiet"]) == 0
    assert run(["partition", str(plan), "--out", str(shards)]) == 0
    place = str(plan.parent).encode()
    assert place in (out / "plan.toml").read_bytes()
    assert not [name for name, held in content(out).items() if place in held and name != "plan.toml"]
    assert place not in (shards / "plan.toml").read_bytes()


def test_a_relative_path_in_a_users_folder_is_theirs(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = tiny_plan.read_text().replace(str(tmp_path / "tiny.npz"), "~/tiny.npz")
    tiny_plan.write_text(text)
    assert run(["simulate", str(tiny_plan), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert np.load(tmp_path / "tiny.npz")["y"].shape == (60,)


def test_a_key_that_is_set_twice_is_not_guessed_at(tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    twice = ["--set", "privacy.epsilon=4", "--set", "privacy.epsilon=5"]
    for verb in ("budget", "simulate", "sweep", "partition"):
        out = [] if verb == "budget" else ["--out", tmp_path / "out"]
        assert "privacy.epsilon is set twice" in refused(verb, tiny_plan, *out, *twice)
    assert "simulation.seed is set twice" in refused("simulate", tiny_plan, "--seed", 1, "--set", "simulation.seed=2")
    both = ["--set", "cohort.rounds=5", "--over", "cohort.rounds=1,2"]
    assert "cohort.rounds is in --set and in --over" in refused("sweep", tiny_plan, *both)


def test_a_broken_installation_is_said_in_two_lines(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bract.cli.commands", None)
    monkeypatch.delenv("BRACT_DEBUG", raising=False)
    refused("budget", code=2)


def test_a_partition_on_a_full_disk_says_what_to_do_with_it(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bract.privacy.storage.os.write", full)
    said = refused("partition", tiny_plan, "--out", tmp_path / "shards", code=5)
    assert f"delete {tmp_path}/shards, then run it again" in said
