"""A whole small training in each cell of unit times place of noise: what it claims, and that masks change nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.privacy import Composed, override, read_tables
from bract.privacy.accounting.accountant import epsilon, spent
from bract.privacy.accounting.events import to_json
from bract.server.state import ServerState, read_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study, mechanism_for

PLACES = ["central", "distributed", "local"]
CELLS = [(unit, noise) for unit in ("record", "client") for noise in PLACES]
SHARED = [(unit, "distributed") for unit in ("record", "client")]
Cell = tuple[str, str]


def study_of(plan: Path, cell: Cell, *settings: str) -> Study:
    unit, noise = cell
    how = [f"privacy.unit={unit}", f"privacy.noise={noise}"]
    how += ["aggregation.protocol=secagg"] if noise == "distributed" else []
    how += ["privacy.sampling_rate=1", "training.local_steps=2"] if unit == "client" else []
    return make_study(override(read_tables(plan), [*how, *settings]))


def trained(study: Study, folder: Path) -> ServerState:
    simulate(study, folder)
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    return state


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_each_cell_is_charged_what_its_plan_says(cell: Cell, tiny_plan: Path, tmp_path: Path) -> None:
    """And it writes its report."""
    unit, noise = cell
    study = study_of(tiny_plan, cell)
    result = simulate(study, tmp_path / "run")
    mechanism = mechanism_for(study)
    server, released = mechanism.event("server", 5), mechanism.event("released", 5)
    assert (result.rounds, result.stopped, result.unit, result.noise) == (3, None, unit, noise)
    assert math.isfinite(result.loss)
    assert [(e["server"], e["released"]) for e in entries(tmp_path / "run")] == [
        (to_json(server), to_json(released))
    ] * 3
    delta = study.privacy.delta
    assert result.epsilon["released"] == pytest.approx(spent(((released, 3),), delta), rel=1e-3)
    if noise == "central":
        assert result.epsilon["server"] is None
        assert 7.9 < result.epsilon["released"] <= 8
    else:
        assert result.epsilon["server"] == pytest.approx(epsilon(Composed(server, 3), delta), rel=1e-3)
        assert result.epsilon["server"] >= result.epsilon["released"]
    if noise == "distributed":  # nobody dropped out: more noise arrived than was claimed
        assert result.epsilon["released"] == result.epsilon["server"] < 0.9 * mechanism.cost() <= 0.9 * 8
    assert f"one {unit}" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("cell", SHARED, ids="-".join)
def test_masks_change_no_bit_of_a_model_of_shared_noise(cell: Cell, tiny_plan: Path, tmp_path: Path) -> None:
    masked, clear = study_of(tiny_plan, cell), study_of(tiny_plan, cell, "simulation.masks=false")
    assert (masked.secure, clear.secure) == (True, False)
    assert masked.digest == clear.digest
    one, other = trained(masked, tmp_path / "masked"), trained(clear, tmp_path / "clear")
    assert one.round == other.round == 3
    assert one.parameters.tobytes() == other.parameters.tobytes()
    ledgers = [entries(tmp_path / name) for name in ("masked", "clear")]
    for name in ("round", "clients", "server", "released"):
        assert [e[name] for e in ledgers[0]] == [e[name] for e in ledgers[1]]


@pytest.mark.parametrize("cell", SHARED, ids="-".join)
def test_noise_for_dropouts_that_do_not_happen_comes_off(
    cell: Cell, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit."""
    study = study_of(tiny_plan, cell, "privacy.shares=xnoise", "aggregation.dropouts=0.2")
    assert len(mechanism_for(study).layers) == 1
    layered = trained(study, tmp_path / "layered")
    for place in ("privacy.mechanisms.distributed", "server.aggregation.secure"):
        monkeypatch.setattr(f"bract.{place}.layer_noise", lambda some, seeds, count: np.zeros(count, dtype=np.int64))
    without = trained(study, tmp_path / "without")
    assert layered.round == without.round == 3
    assert layered.parameters.tobytes() == without.parameters.tobytes()


@pytest.mark.parametrize("cell", SHARED, ids="-".join)
def test_another_seed_gives_another_model_and_the_same_claim(cell: Cell, tiny_plan: Path, tmp_path: Path) -> None:
    quick = ["simulation.masks=false", "cohort.rounds=1"]
    studies = [study_of(tiny_plan, cell, *quick, f"simulation.seed={seed}") for seed in (7, 8)]
    states = [trained(study, tmp_path / str(n)) for n, study in enumerate(studies)]
    assert not np.array_equal(states[0].parameters, states[1].parameters)
    assert studies[0].digest == studies[1].digest


@pytest.mark.parametrize(("unit", "places"), [("record", PLACES[:2]), ("client", PLACES)], ids=["record", "client"])
def test_but_for_the_noise_all_places_train_the_same_model(
    unit: str, places: list[str], tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples, batches and clip are the same; what is left is the rounding to the grids."""
    for name in ("distributed.skellam", "local.gaussian", "central.gaussian"):
        monkeypatch.setattr(
            f"bract.privacy.mechanisms.{name}", lambda scale, count, keystream: np.zeros(count, dtype=np.int64)
        )
    how = ["simulation.masks=false", "privacy.clip_norm=0.5", "aggregation.bits=32", "cohort.rounds=2"]
    start = trained(
        study_of(tiny_plan, (unit, "central"), "cohort.rounds=1", "server.learning_rate=1e-30"), tmp_path / "s"
    )
    found = {
        noise: trained(study_of(tiny_plan, (unit, noise), *how), tmp_path / noise).parameters for noise in places
    }
    moved = np.linalg.norm(found["central"] - start.parameters)
    assert moved > 0.1
    for noise in places[1:]:
        assert 0 < np.linalg.norm(found[noise] - found["central"]) < 0.1 * moved, noise


@pytest.mark.parametrize("noise", PLACES)
def test_part_cohorts_of_clients_spend_no_more_than_the_budget(noise: str, tiny_plan: Path, tmp_path: Path) -> None:
    how = ["cohort.size=3", "cohort.rounds=5", "simulation.masks=false"]
    study = study_of(tiny_plan, ("client", noise), *how)
    result = simulate(study, tmp_path / "run")
    assert (result.rounds, study.participations) == (5, 3)
    assert 0 < result.epsilon["released"] <= 8
    taken = [client for entry in entries(tmp_path / "run") for client in entry["clients"]]
    assert {taken.count(client) for client in set(taken)} == {3}
    assert len(set(taken)) == 5


@pytest.mark.parametrize("masks", ["true", "false"])
def test_shared_noise_without_protection_is_as_central_noise(masks: str, tiny_plan: Path, tmp_path: Path) -> None:
    """There is no noise to share then: nothing is turned, rounded at random, or left for the floor to refuse."""
    study = study_of(tiny_plan, ("none", "distributed"), f"simulation.masks={masks}")
    result = simulate(study, tmp_path / "run")
    assert (result.rounds, result.epsilon, result.delta) == (3, {"server": None, "released": None}, None)
    central = trained(study_of(tiny_plan, ("none", "central")), tmp_path / "central")
    found = read_checkpoint(tmp_path / "run" / "checkpoint.bract")
    assert found is not None
    assert found.parameters.tobytes() == central.parameters.tobytes()
    assert "Nothing is protected" in (tmp_path / "run" / "report.html").read_text()


SCHEDULED = ("server.schedule=cosine", "server.warmup=2", "server.momentum=0.5", "server.weight_decay=0.01")
LOCAL_ADAM = ("training.local_steps=3", "training.optimizer=adam", "training.weight_decay=0.01")
LOCAL_MOMENTUM = ("training.local_steps=3", "training.momentum=0.5", "training.proximal=0.1")


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        (("record", "distributed"), ()),
        (("client", "central"), (*LOCAL_ADAM, "training.proximal=0.1", *SCHEDULED)),
        (("record", "local"), (*LOCAL_MOMENTUM, "server.schedule=linear", "server.optimizer=adam")),
    ],
    ids=["shared noise", "local adam", "local momentum"],
)
def test_a_cut_off_run_goes_on_to_the_same_model(
    cell: tuple[str, str], settings: tuple[str, ...], tiny_plan: Path, tmp_path: Path
) -> None:
    """Bit for bit: the optimizers of the devices start anew in each round, and the server's is in the checkpoint."""
    study = study_of(tiny_plan, cell, *settings)
    whole = trained(study, tmp_path / "whole")

    class Cut(Exception):
        pass

    class Cutting:
        def started(self, state: ServerState, ledger: object) -> None: ...

        def answered(self) -> None: ...

        def finished_round(self, record: Any) -> None:
            if record.round == 2:
                raise Cut

    with pytest.raises(Cut):
        simulate(study, tmp_path / "cut", Cutting())
    resumed = trained(study, tmp_path / "cut")
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert [entry["round"] for entry in entries(tmp_path / "cut")] == [1, 2, 3]
