"""What the round loop charges, and when: before a release, for too few devices, to the end of the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from trainings import CLIENTS, charged_rounds, entries, grid, training

from bract.privacy import Budget, Ledger, Plan, RoundError, StorageError, Sum, mechanism_of
from bract.privacy.plan.plan import Cohort, Data, Model, Privacy
from bract.server.rounds import train
from bract.simulations.local_grid import FIRST_NODE, LocalGrid

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
Call = Callable[..., Any]
NOISES = ["central", "local"]


class TestTheCharge:
    def test_is_on_disk_before_the_server_opens_a_sum_to_noise_it(
        self, make: Make, counter: App, tmp_path: Path, spied: Call
    ) -> None:
        plan, seen = make(), []
        noting = spied(plan, lambda _: seen.append(charged_rounds(tmp_path)))
        train(grid(counter), training(plan, tmp_path, noting))
        assert seen == [[1], [1, 2], [1, 2, 3]]

    def test_is_not_made_before_enough_answers_to_release(self, make: Make, counter: App, tmp_path: Path) -> None:
        """Before the server has them."""
        seen: list[list[int]] = []

        def watching(message: Message, context: Context) -> Message:
            seen.append(charged_rounds(tmp_path))
            return counter(message, context)

        train(grid(watching), training(make(), tmp_path))
        assert seen == [[]] * 4 + [[1]] * 4 + [[1, 2]] * 4

    def test_is_on_disk_before_an_offer_of_local_noise(self, make: Make, counter: App, tmp_path: Path) -> None:
        """Where devices release by answering."""
        seen: list[list[int]] = []
        pushed = LocalGrid.push_messages

        class Watching(LocalGrid):
            def push_messages(self, messages: Any) -> Any:
                messages = list(messages)
                if messages[0].metadata.message_type == "train":
                    seen.append(charged_rounds(tmp_path))
                return pushed(self, messages)

        train(Watching(counter, CLIENTS), training(make(privacy={"noise": "local"}), tmp_path))
        assert seen == [[1], [1, 2], [1, 2, 3]]

    @pytest.mark.parametrize("noise", NOISES)
    def test_that_cannot_be_written_stops_the_release(
        self, make: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str, spied: Call
    ) -> None:
        plan, opened, offered = make(privacy={"noise": noise}), [], []

        def watching(message: Message, context: Context) -> Message:
            offered.append(1)
            return counter(message, context)

        def full(self: Ledger, entry: object) -> None:
            raise StorageError("cannot write: no space left on device", "free some space")

        monkeypatch.setattr(Ledger, "spend", full)
        with pytest.raises(StorageError):
            train(grid(watching), training(plan, tmp_path, mechanism=spied(plan, opened.append)))
        assert not opened
        assert bool(offered) == (noise == "central")

    @pytest.mark.parametrize(("unit", "rate"), [("record", 0.5), ("client", 1.0)])
    @pytest.mark.parametrize("noise", NOISES)
    def test_names_each_client_once_with_the_plans_events(
        self, make: Make, counter: App, tmp_path: Path, noise: str, unit: str, rate: float
    ) -> None:
        plan = make(privacy={"noise": noise, "unit": unit, "sampling_rate": rate})
        mechanism = mechanism_of(plan)
        train(grid(counter), training(plan, tmp_path))
        with Ledger(tmp_path / "ledger.jsonl", mechanism.budget, plan.digest) as ledger:
            for entry in ledger.entries:
                assert sorted(set(entry.clients)) == list(entry.clients)
                assert (entry.server, entry.released) == (mechanism.server_event, mechanism.round_event)
            assert len({entry.release for entry in ledger.entries}) == 3


class TestTooFewDevices:
    def test_end_the_round_and_those_that_trained_are_charged(
        self, make: Make, counter: App, tmp_path: Path, refusing: Call, spied: Call
    ) -> None:
        """Nothing is released; the server adds the noise."""
        plan, opened = make(), []
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 1, FIRST_NODE + 2})
        with pytest.raises(RoundError, match=r"1 of 4 devices .* needs 2 \(1 said ok, 3 said refused\)"):
            train(grid(app), training(plan, tmp_path, mechanism=spied(plan, opened.append)))
        assert not opened
        assert [entry["clients"] for entry in entries(tmp_path)] == [["3"]]

    def test_cost_their_charge_where_devices_noise(
        self, make: Make, counter: App, tmp_path: Path, refusing: Call
    ) -> None:
        plan = make(privacy={"noise": "local"})
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 1, FIRST_NODE + 2}, "failed")
        with pytest.raises(RoundError):
            train(grid(app), training(plan, tmp_path))
        assert charged_rounds(tmp_path) == [1]

    def test_that_all_refuse_are_told_by_their_codes(
        self, make: Make, counter: App, tmp_path: Path, refusing: Call
    ) -> None:
        app = refusing(counter, set(range(FIRST_NODE, FIRST_NODE + CLIENTS)), "data")
        with pytest.raises(RoundError, match="4 said data"):
            train(grid(app), training(make(), tmp_path))

    def test_connected_end_the_round_before_anything_is_offered(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        def never(message: Message, context: Context) -> Message:
            raise AssertionError

        with pytest.raises(RoundError, match="1 devices are connected, the round needs 2"):
            train(grid(never, clients=1), training(make(cohort={"deadline": 0.01}), tmp_path))
        assert entries(tmp_path) == []

    @pytest.mark.parametrize("noise", NOISES)
    def test_leave_a_folder_from_which_the_training_goes_on(
        self, make: Make, counter: App, tmp_path: Path, noise: str, refusing: Call
    ) -> None:
        """The next round comes next."""
        plan = make(privacy={"noise": noise})
        calls = Counter[int]()

        def flaky(message: Message, context: Context) -> Message:
            calls[context.node_id] += 1
            absent = calls[context.node_id] == 2 and context.node_id != FIRST_NODE
            return (refusing(counter, {context.node_id}, "failed") if absent else counter)(message, context)

        with pytest.raises(RoundError):
            train(grid(flaky), training(plan, tmp_path))
        resumed = train(grid(flaky), training(plan, tmp_path))
        assert [record.lost for record in resumed.records] == [False, True, False]
        assert charged_rounds(tmp_path) == [1, 2, 3]


class TestTheEndOfTheBudget:
    def test_stops_with_the_state_of_the_last_paid_round(self, counter: App, tmp_path: Path, spied: Call) -> None:
        """A plan that nobody checked: its ledger ends it."""
        plan = Plan(
            data=Data(shape=(1, 2, 2), classes=3, clients=4),
            model=Model(name="tiny"),
            cohort=Cohort(rounds=9, size=4),
            privacy=Privacy(epsilon=2.0, delta=1e-3, noise_multiplier=1.0),
        )
        assert mechanism_of(plan).cost() > 2.0
        opened: list[Sum] = []
        outcome = train(grid(counter), training(plan, tmp_path, mechanism=spied(plan, opened.append)))
        assert outcome.stopped is not None
        assert 0 < outcome.state.round < 9
        assert len(opened) == outcome.state.round == len(entries(tmp_path))
        assert 0 < outcome.epsilon["released"] <= 2.0
        again = train(grid(counter), training(plan, tmp_path, mechanism=spied(plan, opened.append)))
        assert again.stopped is not None
        assert again.state.round == outcome.state.round == len(opened)

    @pytest.mark.parametrize("noise", NOISES)
    def test_comes_when_fewer_clients_than_planned_took_every_turn(
        self, make: Make, counter: App, tmp_path: Path, noise: str
    ) -> None:
        plan = make(cohort={"size": 2, "rounds": 4, "deadline": 0.2}, privacy={"noise": noise})
        outcome = train(grid(counter, clients=2), training(plan, tmp_path))
        assert plan.participations == 2
        assert outcome.state.round == 2
        assert outcome.stopped is not None
        assert "every available client" in outcome.stopped.what
        assert charged_rounds(tmp_path) == [1, 2]


def test_a_budget_binds_the_view_that_the_noise_protects(make: Make) -> None:
    views = {"central": "released", "local": "server", "distributed": "server"}
    for noise, view in views.items():
        for unit, rate in (("record", 0.5), ("client", 1.0)):
            plan = make(
                model={"parameters": 15},
                privacy={"noise": noise, "unit": unit, "sampling_rate": rate},
                aggregation={"protocol": "secagg"},
            )
            assert mechanism_of(plan).budget == Budget(8.0, 1e-3, unit, view)


@pytest.mark.parametrize("noise", ["central", "local"])
def test_a_client_over_its_planned_rounds_ends_the_round(
    make: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    """Whatever chose the cohort: the noise is sized for so many rounds of a client."""
    plan = make(cohort={"rounds": 4, "size": 2}, privacy={"noise": noise})
    assert plan.participations == 2
    monkeypatch.setattr("bract.server.cohort.choose_cohort", lambda available, *rest: ["0", "1"])
    with pytest.raises(ValueError, match="2 clients are in round 3 that took part as often as planned"):
        train(grid(counter), training(plan, tmp_path))
    assert charged_rounds(tmp_path) == [1, 2]
