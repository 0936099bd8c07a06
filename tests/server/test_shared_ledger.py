"""Runs of several plans that are charged to one population's ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from bract.privacy import Budget, Entry, Gaussian, Plan, PlanError, StateError, mechanism_of
from bract.privacy.ledger.ledger import PopulationLedger, new_population
from bract.privacy.ledger.statement import read_ledger
from bract.server.app import main
from bract.server.rounds import train
from bract.server.training import NullObserver, TrainingRun
from bract.simulations.local_grid import LocalGrid
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
CLIENTS = 4


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A population's ledger for plans as `make` makes them."""
    new_population(tmp_path / "shared.jsonl", Budget(100.0, 1e-3, "record", "released"))
    return tmp_path / "shared.jsonl"


def training(plan: Plan, folder: Path, shared: Path | None = None, **parts: Any) -> TrainingRun:
    folder.mkdir(exist_ok=True)
    return TrainingRun(mechanism_of(plan), folder, **({"entropy": SeededEntropy(5), "shared_ledger": shared} | parts))


def spend(run: TrainingRun, number: int = 1) -> None:
    with run.open_ledger() as ledger:
        ledger.spend(Entry(number, f"r{number}", ("1", "2"), Gaussian(5.0), Gaussian(5.0)))


def count(run: TrainingRun) -> int:
    with run.open_ledger() as ledger:
        return len(ledger.entries)


class TestTheLedgerOfARun:
    def test_is_its_own_unless_it_shares_one(self, make: Make, tmp_path: Path, shared: Path) -> None:
        assert training(make(), tmp_path / "a").ledger == tmp_path / "a" / "ledger.jsonl"
        assert training(make(), tmp_path / "b", shared).ledger == shared.resolve()
        with training(make(), tmp_path / "a").open_ledger() as ledger:
            assert not isinstance(ledger, PopulationLedger)
        assert not (tmp_path / "a" / "shared_ledger.json").exists()

    def test_is_the_one_it_began_with_even_if_not_named_again(self, make: Make, tmp_path: Path, shared: Path) -> None:
        spend(training(make(), tmp_path / "run", shared))
        resumed = training(make(), tmp_path / "run")
        assert resumed.ledger == shared.resolve()
        assert count(resumed) == count(training(make(), tmp_path / "run", shared)) == 1
        assert not (tmp_path / "run" / "ledger.jsonl").exists()

    def test_cannot_be_changed(self, make: Make, tmp_path: Path, shared: Path) -> None:
        other = tmp_path / "other.jsonl"
        new_population(other, Budget(100.0, 1e-3, "record", "released"))
        spend(training(make(), tmp_path / "run", shared))
        with pytest.raises(StateError, match=r"is charged to .*shared\.jsonl"):
            training(make(), tmp_path / "run", other).open_ledger()
        spend(training(make(), tmp_path / "own"))
        with pytest.raises(StateError, match="is charged to a ledger of its own"):
            training(make(), tmp_path / "own", shared).open_ledger()

    def test_can_be_named_rightly_after_it_was_named_wrongly(self, make: Make, tmp_path: Path, shared: Path) -> None:
        with pytest.raises(PlanError, match="there is no ledger"):
            training(make(), tmp_path / "run", tmp_path / "none").open_ledger()
        spend(training(make(), tmp_path / "run", shared))

    @pytest.mark.parametrize("note", ["", "{}", "[]", '{"ledger": 5, "run": "a"}', "\0"])
    def test_is_not_guessed_if_the_note_of_it_is_damaged(
        self, make: Make, tmp_path: Path, shared: Path, note: str
    ) -> None:
        spend(training(make(), tmp_path / "run", shared))
        (tmp_path / "run" / "shared_ledger.json").write_text(note)
        for named in (shared, None):
            with pytest.raises(StateError, match="is damaged"):
                training(make(), tmp_path / "run", named).open_ledger()

    def test_refuses_other_clients_or_another_place_of_noise(self, make: Make, tmp_path: Path, shared: Path) -> None:
        """The refusal is of the plan."""
        spend(training(make(), tmp_path / "a", shared, population="these"))
        with pytest.raises(PlanError, match="counts other clients than"):
            training(make(), tmp_path / "b", shared, population="those").open_ledger()
        with pytest.raises(PlanError, match="view released, the plan server"):
            training(make(privacy={"noise": "local"}), tmp_path / "c", shared).open_ledger()


def test_a_plan_whose_clients_are_pseudonyms_cannot_share_one(
    make: Make, counter: Any, tmp_path: Path, shared: Path
) -> None:
    """They are others in each plan, so the sum over plans would be of nobody."""
    (tmp_path / "plan.toml").write_text(make().to_toml())
    config = {"plan": str(tmp_path / "plan.toml"), "out": str(tmp_path / "a"), "ledger": str(shared)}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=dict(config))
    with pytest.raises(PlanError, match="pseudonyms"):
        main(LocalGrid(counter, CLIENTS), context)
    assert read_ledger(shared).entries == ()


class TestTwoTrainings:
    def test_of_one_plan_are_two_runs_that_share_the_budget(
        self, make: Make, counter: Any, tmp_path: Path, shared: Path
    ) -> None:
        plan = make()
        outcomes = [
            train(LocalGrid(counter, CLIENTS), training(plan, tmp_path / name, shared, entropy=SeededEntropy(seed)))
            for seed, name in enumerate(("a", "b"))
        ]
        assert [outcome.state.round for outcome in outcomes] == [3, 3]
        reading = read_ledger(shared)
        assert [entry.round for entry in reading.entries] == [1, 2, 3, 1, 2, 3]
        assert len({entry.origin for entry in reading.entries}) == 2
        first, second = (outcome.epsilon["released"] for outcome in outcomes)
        assert first
        assert second
        assert second > 1.2 * first

    def test_end_where_the_shared_budget_ends(self, make: Make, counter: Any, tmp_path: Path) -> None:
        """Though each plan has one of its own."""
        plan = make()
        new_population(tmp_path / "tight", Budget(mechanism_of(plan).cost() * 1.15, 1e-3, "record", "released"))
        first = train(LocalGrid(counter, CLIENTS), training(plan, tmp_path / "a", tmp_path / "tight"))
        assert first.stopped is None
        other = make(privacy={"noise_multiplier": 3.5})
        second = train(LocalGrid(counter, CLIENTS), training(other, tmp_path / "b", tmp_path / "tight"))
        assert second.stopped
        assert "the population's epsilon" in second.stopped.what
        assert 0 < second.state.round < 3

    def test_go_on_where_they_were_cut_off(self, make: Make, counter: Any, tmp_path: Path, shared: Path) -> None:
        """It does not matter what the other did since."""

        class Cut(Exception):
            pass

        class Cutting(NullObserver):
            def finished_round(self, record: Any) -> None:
                if record.round == 2:
                    raise Cut

        with pytest.raises(Cut):
            train(LocalGrid(counter, CLIENTS), training(make(), tmp_path / "a", shared, observer=Cutting()))
        train(LocalGrid(counter, CLIENTS), training(make(), tmp_path / "b", shared, entropy=SeededEntropy(6)))
        outcome = train(LocalGrid(counter, CLIENTS), training(make(), tmp_path / "a"))
        assert outcome.state.round == 3
        noted = json.loads((tmp_path / "a" / "shared_ledger.json").read_text())
        mine = [
            entry.round for entry in read_ledger(shared).entries if entry.origin and entry.origin.run == noted["run"]
        ]
        assert sorted(set(mine)) == [1, 2, 3]

    def test_cannot_go_on_with_a_ledger_that_lost_lines(
        self, make: Make, counter: Any, tmp_path: Path, shared: Path
    ) -> None:
        train(LocalGrid(counter, CLIENTS), training(make(), tmp_path / "a", shared))
        lines = shared.read_bytes().splitlines(keepends=True)
        shared.write_bytes(b"".join(lines[:-1]))
        with pytest.raises(StateError, match="has lost entries"):
            train(LocalGrid(counter, CLIENTS), training(make(), tmp_path / "a", shared))
