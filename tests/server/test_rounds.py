"""The round loop on a LocalGrid, with devices that only count: what is charged when, and what a crash leaves."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from bract.client.app import Device, make_app
from bract.client.records import Records, make_records
from bract.client.terms import Terms
from bract.privacy import (
    Budget,
    Keystream,
    Ledger,
    Plan,
    PlanError,
    Release,
    RoundError,
    StateError,
    StorageError,
    Sum,
    SystemEntropy,
)
from bract.privacy.messages import ANSWER, OFFER, PARAMETERS, Offer, read_offer, read_parameters
from bract.privacy.plan import Cohort, Data, Model, Privacy
from bract.server import rounds
from bract.server.evaluate import Quality, make_evaluate
from bract.server.metrics import Metrics, RoundRecord
from bract.server.release import RELEASES
from bract.server.rounds import train
from bract.server.state import ServerState, read_checkpoint
from bract.server.training import Outcome, Silent, Training
from bract.simulations.grid import FIRST_NODE, LocalGrid
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
COUNT, CLIENTS = 15, 4
NOISES = ["central", "local"]


class Crash(Exception):
    """The process dies here."""


def crash() -> Any:
    raise Crash


def training(plan: Plan, folder: Path, **parts: Any) -> Training:
    return Training(plan, folder, **({"entropy": SeededEntropy(5)} | parts))


def grid(app: Any, clients: int = CLIENTS) -> LocalGrid:
    return LocalGrid(app, clients)


def entries(folder: Path) -> list[dict[str, Any]]:
    """The charges that are on disk."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()[1:]]


def charged_rounds(folder: Path) -> list[int]:
    return [entry["round"] for entry in entries(folder)]


def refusing(app: App, nodes: set[int], code: str = "terms") -> App:
    """The app, but these nodes answer with a code."""

    def answer(message: Message, context: Context) -> Message:
        if context.node_id in nodes:
            return Message(RecordDict({ANSWER: ConfigRecord({"code": code})}), reply_to=message)
        return app(message, context)

    return answer


def spied(plan: Plan, note: Callable[[Sum], None]) -> dict[tuple[str, str], Any]:
    """The plan's release function, told of every sum it opens before it does."""

    def release(total: Sum, plan: Plan, noise: Keystream) -> Release:
        note(total)
        return RELEASES[plan.cell](total, plan, noise)

    return {plan.cell: release}


class TestATraining:
    @pytest.mark.parametrize("noise", NOISES)
    def test_ends_after_its_rounds_with_one_charge_each(
        self, make: Make, counter: App, tmp_path: Path, noise: str
    ) -> None:
        outcome = train(grid(counter), training(make(privacy={"noise": noise}), tmp_path))
        assert outcome.state.round == 3
        assert outcome.stopped is None
        assert [record.round for record in outcome.records] == [1, 2, 3]
        assert charged_rounds(tmp_path) == [1, 2, 3]

    def test_keeps_its_plan_where_a_later_run_finds_it(self, make: Make, counter: App, tmp_path: Path) -> None:
        plan = make()
        train(grid(counter), training(plan, tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b" / "plan.toml").read_text() == plan.to_toml()

    def test_offers_each_round_its_number_the_public_plan_and_the_parameters_of_the_round_before(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        offers: dict[int, tuple[Offer, bytes]] = {}
        after: dict[int, bytes] = {}

        def watching(message: Message, context: Context) -> Message:
            offer = read_offer(message.content.config_records[OFFER])
            [array] = message.content.array_records[PARAMETERS].values()
            offers.setdefault(offer.round, (offer, array.data))
            assert offers[offer.round] == (offer, array.data)
            state = read_checkpoint(tmp_path / "checkpoint.bract")
            after[offer.round - 1] = state.parameters.astype("<f4").tobytes()
            return counter(message, context)

        plan = make()
        train(grid(watching), training(plan, tmp_path))
        assert [offers[n][0] for n in (1, 2, 3)] == [Offer(n, plan.offered()) for n in (1, 2, 3)]
        assert [offers[n][1] for n in (1, 2, 3)] == [after[n] for n in (0, 1, 2)]
        assert len(set(after.values())) == 3

    def test_opens_the_exact_sum_of_the_updates_that_came(self, make: Make, tmp_path: Path, update: Any) -> None:
        plan, sums = make(cohort={"rounds": 1}), []

        def app(message: Message, context: Context) -> Message:
            return Message(update(np.full(COUNT, 2**45 + context.node_id, dtype=np.int64)), reply_to=message)

        train(
            grid(refusing(app, {FIRST_NODE})),
            training(plan, tmp_path, releases=spied(plan, lambda s: sums.append(s.vector.copy()))),
        )
        expected = 3 * 2**45 + sum(range(FIRST_NODE + 1, FIRST_NODE + CLIENTS))
        assert [s.tolist() for s in sums] == [[expected] * COUNT]

    def test_leaves_malformed_updates_out_of_the_sum_and_out_of_the_charge(
        self, make: Make, counter: App, tmp_path: Path, update: Any
    ) -> None:
        def app(message: Message, context: Context) -> Message:
            if context.node_id == FIRST_NODE:
                return Message(update(np.zeros(COUNT + 1)), reply_to=message)
            return counter(message, context)

        outcome = train(grid(app), training(make(cohort={"rounds": 1}), tmp_path))
        assert outcome.records[0].survivors == 3
        assert outcome.records[0].codes == {"ok": 3, "malformed": 1}
        assert entries(tmp_path)[0]["clients"] == [FIRST_NODE + 1, FIRST_NODE + 2, FIRST_NODE + 3]

    @pytest.mark.parametrize(("noise", "charged"), [("central", 2), ("local", 4)])
    def test_charges_those_in_the_sum_where_the_server_noises_and_all_that_were_asked_where_devices_do(
        self, make: Make, counter: App, tmp_path: Path, noise: str, charged: int
    ) -> None:
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 2})
        train(grid(app), training(make(privacy={"noise": noise}, cohort={"rounds": 1}), tmp_path))
        assert len(entries(tmp_path)[0]["clients"]) == charged

    def test_divides_by_public_numbers_and_not_by_who_answered(self, make: Make, tmp_path: Path, update: Any) -> None:
        """With the same sum, one survivor or four, the released change is the same."""

        def app(message: Message, context: Context) -> Message:
            value = 2**32 if context.node_id == FIRST_NODE else 0
            return Message(update(np.full(COUNT, value)), reply_to=message)

        plan = make(cohort={"rounds": 1, "minimum": 1})
        others = set(range(FIRST_NODE + 1, FIRST_NODE + CLIENTS))
        alone = train(grid(refusing(app, others)), training(plan, tmp_path / "alone")).state
        together = train(grid(app), training(plan, tmp_path / "together")).state
        assert np.array_equal(alone.parameters, together.parameters)

    def test_says_infinite_against_the_server_where_the_server_noises(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        outcome = train(grid(counter), training(make(), tmp_path))
        assert [record.epsilon["server"] for record in outcome.records] == [None] * 3
        released = [record.epsilon["released"] for record in outcome.records]
        assert 0 < released[0] < released[1] < released[2] <= 8.0
        assert released[2] == pytest.approx(make().cost())

    def test_says_the_same_against_the_server_where_devices_noise(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        outcome = train(grid(counter), training(make(privacy={"noise": "local"}), tmp_path))
        assert all(record.epsilon["server"] == record.epsilon["released"] > 0 for record in outcome.records)

    def test_is_a_function_of_plan_and_seed(self, make: Make, counter: App, tmp_path: Path) -> None:
        models = [
            train(grid(counter), training(make(), tmp_path / str(n), entropy=SeededEntropy(seed))).state.model
            for n, seed in enumerate((5, 5, 6))
        ]
        assert np.array_equal(models[0], models[1])
        assert not np.array_equal(models[0], models[2])

    def test_without_a_seed_is_never_the_same_twice(self, make: Make, counter: App, tmp_path: Path) -> None:
        plan = make(cohort={"rounds": 1})
        models = [train(grid(counter), Training(plan, tmp_path / str(n))).state.model for n in range(2)]
        assert not np.array_equal(*models)

    def test_deals_the_cohorts_round_robin(self, make: Make, counter: App, tmp_path: Path) -> None:
        train(grid(counter), training(make(cohort={"size": 2, "rounds": 6}), tmp_path))
        taken = Counter(client for entry in entries(tmp_path) for client in entry["clients"])
        assert set(taken.values()) == {3}

    @pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [2, 3]), (5, [3])])
    def test_tests_its_model_as_often_as_the_plan_says_and_at_the_end(
        self, make: Make, counter: App, tmp_path: Path, every: int, expected: list[int]
    ) -> None:
        tested: list[np.ndarray] = []

        def evaluate(model: np.ndarray) -> Quality:
            tested.append(model.copy())
            return Quality(0.5, 1.0)

        plan = make(server={"evaluate_every": every, "averaging": 0.9})
        outcome = train(grid(counter), training(plan, tmp_path, evaluate=evaluate))
        assert [record.round for record in outcome.records if record.accuracy is not None] == expected
        assert len(tested) == len(expected)
        assert np.array_equal(tested[-1], outcome.state.model)
        assert not np.array_equal(outcome.state.model, outcome.state.parameters)

    def test_tells_its_observer_of_every_answer_and_every_round_in_turn(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        told: list[str] = []

        class Watching(Silent):
            def started(self, state: ServerState, ledger: Ledger) -> None:
                told.append(f"from {state.round}")

            def answered(self) -> None:
                told.append("answer")

            def finished_round(self, record: RoundRecord) -> None:
                state = read_checkpoint(tmp_path / "checkpoint.bract")
                assert state is not None
                assert state.round == record.round
                told.append(f"round {record.round}")

        train(grid(counter), training(make(), tmp_path, observer=Watching()))
        assert told == ["from 0", *(word for n in (1, 2, 3) for word in (*["answer"] * 4, f"round {n}"))]

    def test_of_real_devices_learns_from_their_records(self, make: Make, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = np.arange(40) % 3
        features = rng.normal(size=(40, 1, 2, 2)).astype(np.float32) * 0.1
        features[np.arange(40), 0, labels // 2, labels % 2] += 2.0
        records = make_records(features, labels, torch.device("cpu"))
        devices: dict[int, Records] = {
            FIRST_NODE + n: records.select(np.arange(40) % CLIENTS == n) for n in range(CLIENTS)
        }
        app = make_app(lambda c: Device(devices[c.node_id], Terms(trusted_server=True, max_epsilon=1e6)))
        plan = make(
            cohort={"rounds": 8},
            training={"batch_size": 20, "learning_rate": 3.0},
            privacy={"epsilon": 1e6, "noise_multiplier": 0.3},
        )
        evaluate = make_evaluate(plan, features, labels)
        outcome = train(grid(app), Training(plan, tmp_path, evaluate=evaluate, entropy=SeededEntropy(1)))
        assert outcome.records[-1].accuracy is not None
        assert outcome.records[-1].accuracy > 0.8


class TestTheCharge:
    def test_is_on_disk_before_the_server_opens_a_sum_to_noise_it(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        plan, seen = make(), []
        releases = spied(plan, lambda _: seen.append(charged_rounds(tmp_path)))
        train(grid(counter), training(plan, tmp_path, releases=releases))
        assert seen == [[1], [1, 2], [1, 2, 3]]

    def test_is_not_made_before_the_server_has_enough_answers_to_release(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        seen: list[list[int]] = []

        def watching(message: Message, context: Context) -> Message:
            seen.append(charged_rounds(tmp_path))
            return counter(message, context)

        train(grid(watching), training(make(), tmp_path))
        assert seen == [[]] * 4 + [[1]] * 4 + [[1, 2]] * 4

    def test_is_on_disk_before_an_offer_goes_out_where_devices_release_by_answering(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        seen: list[list[int]] = []
        pushed = LocalGrid.push_messages

        class Watching(LocalGrid):
            def push_messages(self, messages: Any) -> Any:
                seen.append(charged_rounds(tmp_path))
                return pushed(self, messages)

        train(Watching(counter, CLIENTS), training(make(privacy={"noise": "local"}), tmp_path))
        assert seen == [[1], [1, 2], [1, 2, 3]]

    @pytest.mark.parametrize("noise", NOISES)
    def test_that_cannot_be_written_stops_the_release(
        self, make: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str
    ) -> None:
        plan, opened, offered = make(privacy={"noise": noise}), [], []

        def watching(message: Message, context: Context) -> Message:
            offered.append(1)
            return counter(message, context)

        def full(self: Ledger, entry: object) -> None:
            raise StorageError("cannot write: no space left on device", "free some space")

        monkeypatch.setattr(Ledger, "spend", full)
        with pytest.raises(StorageError):
            train(grid(watching), training(plan, tmp_path, releases=spied(plan, opened.append)))
        assert not opened
        assert bool(offered) == (noise == "central")

    @pytest.mark.parametrize("noise", NOISES)
    def test_names_each_client_once_with_the_plans_events(
        self, make: Make, counter: App, tmp_path: Path, noise: str
    ) -> None:
        plan = make(privacy={"noise": noise})
        train(grid(counter), training(plan, tmp_path))
        with Ledger(tmp_path / "ledger.jsonl", plan.budget, plan.digest) as ledger:
            for entry in ledger.entries:
                assert sorted(set(entry.clients)) == list(entry.clients)
                assert (entry.server, entry.released) == (plan.server_event, plan.round_event)
            assert len({entry.release for entry in ledger.entries}) == 3


class TestTooFewDevices:
    def test_end_the_round_without_a_release_or_a_charge_where_the_server_noises(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        plan, opened = make(), []
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 1, FIRST_NODE + 2})
        with pytest.raises(RoundError, match=r"1 of 4 devices .* needs 2 \(1 said ok, 3 said terms\)"):
            train(grid(app), training(plan, tmp_path, releases=spied(plan, opened.append)))
        assert not opened
        assert entries(tmp_path) == []

    def test_cost_their_charge_where_devices_noise(self, make: Make, counter: App, tmp_path: Path) -> None:
        plan = make(privacy={"noise": "local"})
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 1, FIRST_NODE + 2}, "failed")
        with pytest.raises(RoundError):
            train(grid(app), training(plan, tmp_path))
        assert charged_rounds(tmp_path) == [1]

    def test_that_all_refuse_are_told_by_their_codes(self, make: Make, counter: App, tmp_path: Path) -> None:
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
        self, make: Make, counter: App, tmp_path: Path, noise: str
    ) -> None:
        plan = make(privacy={"noise": noise})
        undisturbed = train(grid(counter), training(plan, tmp_path / "undisturbed")).state
        calls = Counter[int]()

        def flaky(message: Message, context: Context) -> Message:
            calls[context.node_id] += 1
            absent = calls[context.node_id] == 2 and context.node_id != FIRST_NODE
            return (refusing(counter, {context.node_id}) if absent else counter)(message, context)

        with pytest.raises(RoundError):
            train(grid(flaky), training(plan, tmp_path / "flaky"))
        resumed = train(grid(flaky), training(plan, tmp_path / "flaky"))
        assert np.array_equal(resumed.state.model, undisturbed.model)
        assert charged_rounds(tmp_path / "flaky") == [1, 2, 3]


class TestTheEndOfTheBudget:
    def test_stops_the_training_with_the_state_of_the_last_paid_round(self, counter: App, tmp_path: Path) -> None:
        """A plan that nobody checked: its ledger ends it."""
        plan = Plan(
            data=Data(shape=(1, 2, 2), classes=3, clients=4),
            model=Model(name="tiny"),
            cohort=Cohort(rounds=9, size=4),
            privacy=Privacy(epsilon=2.0, delta=1e-3, noise_multiplier=1.0),
        )
        assert plan.cost() > 2.0
        opened: list[Sum] = []
        outcome = train(grid(counter), training(plan, tmp_path, releases=spied(plan, opened.append)))
        assert outcome.stopped is not None
        assert 0 < outcome.state.round < 9
        assert len(opened) == outcome.state.round == len(entries(tmp_path))
        assert 0 < outcome.epsilon["released"] <= 2.0
        again = train(grid(counter), training(plan, tmp_path, releases=spied(plan, opened.append)))
        assert again.stopped is not None
        assert again.state.round == outcome.state.round == len(opened)

    @pytest.mark.parametrize("noise", NOISES)
    def test_comes_when_fewer_clients_than_planned_took_every_turn(
        self, make: Make, counter: App, tmp_path: Path, noise: str
    ) -> None:
        plan = make(cohort={"size": 2, "rounds": 4}, privacy={"noise": noise})
        outcome = train(grid(counter, clients=2), training(plan, tmp_path))
        assert plan.participations == 2
        assert outcome.state.round == 2
        assert outcome.stopped is not None
        assert "every available client" in outcome.stopped.what
        assert charged_rounds(tmp_path) == [1, 2]


class Noting:
    """Entropy that knows in which round it is asked."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.round = inner, 0

    def keystream(self, *purpose: str | int) -> Keystream:
        self.round = int(purpose[1]) if len(purpose) > 1 else 0
        return self.inner.keystream(*purpose)


PLACES: dict[str, tuple[Any, str]] = {
    "amid exchange": (rounds, "exchange"),
    "before spend": (Ledger, "spend"),
    "after spend": (Ledger, "spend"),
    "before release": (RELEASES, ""),
    "after release": (RELEASES, ""),
    "before step": (rounds, "step"),
    "before metrics": (Metrics, "write"),
    "after metrics": (Metrics, "write"),
    "before checkpoint": (rounds, "write_checkpoint"),
    "after checkpoint": (rounds, "write_checkpoint"),
}
"""Where a process may die, and which function is called there."""

UNPAID = {"amid exchange", "before spend", "before checkpoint", "after checkpoint"}
"""Where nothing was charged yet in one of the cells, or nothing is lost."""


def deadly(original: Callable[..., Any], when: str, now: Callable[[], bool]) -> Callable[..., Any]:
    """The function, but the process dies before, after or amid its call."""

    def call(*arguments: Any) -> Any:
        if not now():
            return original(*arguments)
        if when == "before":
            raise Crash
        result = original(*arguments)
        if when == "amid":
            return amid(result)
        raise Crash

    def amid(results: Iterator[Any]) -> Iterator[Any]:
        yield next(results)
        raise Crash

    return call


def crashed(place: str, plan: Plan, folder: Path, app: App, number: int, entropy: Any = None) -> None:
    """Train in the folder until the process dies at `place` of round `number`."""
    noting = Noting(entropy or SeededEntropy(5))
    owner, name = PLACES[place]
    when = place.split()[0]

    def now() -> bool:
        return noting.round == number

    with pytest.MonkeyPatch.context() as patched:
        releases = RELEASES
        if owner is RELEASES:
            releases = {cell: deadly(release, when, now) for cell, release in RELEASES.items()}
        else:
            patched.setattr(owner, name, deadly(getattr(owner, name), when, now))
        with pytest.raises(Crash):
            train(grid(app), training(plan, folder, entropy=noting, releases=releases))


class TestACrash:
    @pytest.mark.parametrize(("noise", "size"), [("central", 2), ("central", 4), ("local", 4)])
    @pytest.mark.parametrize("number", [2, 3])
    @pytest.mark.parametrize("place", PLACES)
    def test_of_a_seeded_run_changes_nothing_and_costs_nothing(
        self, make: Make, counter: App, tmp_path: Path, place: str, number: int, noise: str, size: int
    ) -> None:
        plan = make(
            privacy={"noise": noise}, cohort={"size": size}, server={"optimizer": "adam", "learning_rate": 0.1}
        )
        undisturbed = train(grid(counter), training(plan, tmp_path / "undisturbed"))
        crashed(place, plan, tmp_path / "crashed", counter, number)
        resumed = train(grid(counter), training(plan, tmp_path / "crashed"))
        assert resumed.stopped is None
        assert resumed.state.round == 3
        for one, other in [
            (resumed.state.model, undisturbed.state.model),
            (resumed.state.parameters, undisturbed.state.parameters),
            *(
                (resumed.state.optimizer[n], undisturbed.state.optimizer[n])
                for n in ("exp_avg", "exp_avg_sq", "step")
            ),
        ]:
            assert one.tobytes() == other.tobytes()
        assert [e["clients"] for e in entries(tmp_path / "crashed")] == [
            e["clients"] for e in entries(tmp_path / "undisturbed")
        ]
        assert charged_rounds(tmp_path / "crashed") == [1, 2, 3]
        assert [r.round for r in resumed.records] == [1, 2, 3]
        assert [r.epsilon for r in resumed.records] == [r.epsilon for r in undisturbed.records]

    @pytest.mark.parametrize("place", [place for place in PLACES if place not in UNPAID])
    @pytest.mark.parametrize("noise", NOISES)
    def test_after_the_charge_costs_a_second_charge_where_randomness_is_not_seeded(
        self, make: Make, counter: App, tmp_path: Path, place: str, noise: str
    ) -> None:
        plan = make(privacy={"noise": noise})
        crashed(place, plan, tmp_path, counter, 2, entropy=SystemEntropy())
        assert charged_rounds(tmp_path) == [1, 2]
        outcome = train(grid(counter), Training(plan, tmp_path))
        assert charged_rounds(tmp_path) == [1, 2, 2]
        assert outcome.state.round == 2  # the third release was paid for by the one that was lost
        assert outcome.stopped is not None
        assert outcome.epsilon["released"] == pytest.approx(plan.cost())
        assert len({entry["release"] for entry in entries(tmp_path)}) == 3

    def test_in_the_first_round_starts_from_the_same_model(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("amid exchange", make(), tmp_path, counter, 1, SystemEntropy())
        first = read_checkpoint(tmp_path / "checkpoint.bract")
        offered: list[bytes] = []

        def watching(message: Message, context: Context) -> Message:
            [array] = message.content.array_records[PARAMETERS].values()
            offered.append(array.data)
            return counter(message, context)

        assert first is not None
        train(grid(watching), Training(make(), tmp_path))
        assert offered[0] == first.parameters.astype("<f4").tobytes()

    def test_before_the_charge_costs_nothing(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("before spend", make(), tmp_path, counter, 2, entropy=SystemEntropy())
        outcome = train(grid(counter), Training(make(), tmp_path))
        assert charged_rounds(tmp_path) == [1, 2, 3]
        assert outcome.stopped is None

    @pytest.mark.parametrize("place", ["after spend", "before step", "after metrics"])
    def test_while_resuming_from_a_crash_changes_nothing_either(
        self, make: Make, counter: App, tmp_path: Path, place: str
    ) -> None:
        undisturbed = train(grid(counter), training(make(), tmp_path / "undisturbed"))
        for _ in range(3):
            crashed(place, make(), tmp_path / "crashed", counter, 3)
        resumed = train(grid(counter), training(make(), tmp_path / "crashed"))
        assert np.array_equal(resumed.state.model, undisturbed.state.model)
        assert charged_rounds(tmp_path / "crashed") == [1, 2, 3]

    def test_of_a_seeded_run_never_puts_one_sum_under_two_noises(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        """The resumed run makes the very same release again, which is why it is paid for once."""
        plan, noised = make(), []

        def release(total: Sum, plan: Plan, noise: Keystream) -> Release:
            released = RELEASES[plan.cell](total, plan, noise)
            noised.append(released.vector)
            return released

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(rounds, "average", lambda plan, number, *rest: crash() if number == 2 else rest[-1])
            with pytest.raises(Crash):
                train(grid(counter), training(plan, tmp_path, releases={plan.cell: release}))
        train(grid(counter), training(plan, tmp_path, releases={plan.cell: release}))
        assert len(noised) == 4
        assert np.array_equal(noised[1], noised[2])


class TestResuming:
    def finished(self, make: Make, app: App, folder: Path, **tables: Any) -> Outcome:
        return train(grid(app), training(make(**tables), folder))

    def refusal(self, make: Make, folder: Path, **tables: Any) -> str:
        """The first line of the two-line StateError with which the folder is refused, before anything is offered."""

        def never(message: Message, context: Context) -> Message:
            raise AssertionError

        with pytest.raises(StateError) as caught:
            train(grid(never), training(make(**tables), folder))
        what, hint = str(caught.value).split("\n")
        assert hint.startswith("hint: ")
        return what

    def test_a_finished_training_asks_nobody_and_charges_nothing(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        first = self.finished(make, counter, tmp_path)

        def never(message: Message, context: Context) -> Message:
            raise AssertionError

        again = train(grid(never), training(make(), tmp_path))
        assert np.array_equal(again.state.model, first.state.model)
        assert again.records == first.records
        assert charged_rounds(tmp_path) == [1, 2, 3]

    @pytest.mark.parametrize(
        "tables",
        [
            {"privacy": {"clip_norm": 0.5}},
            {"privacy": {"epsilon": 9.0}},
            {"privacy": {"noise": "local"}},
            {"training": {"learning_rate": 0.1}},
            {"cohort": {"rounds": 4}},
        ],
    )
    def test_with_another_plan_is_refused(
        self, make: Make, counter: App, tmp_path: Path, tables: dict[str, Any]
    ) -> None:
        self.finished(make, counter, tmp_path)
        assert "another plan" in self.refusal(make, tmp_path, **tables)
        assert charged_rounds(tmp_path) == [1, 2, 3]

    def test_a_checkpoint_of_another_plan_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path / "a")
        self.finished(make, counter, tmp_path / "b", training={"learning_rate": 0.1})
        shutil.copy(tmp_path / "b" / "checkpoint.bract", tmp_path / "a" / "checkpoint.bract")
        assert "holds a run of another plan" in self.refusal(make, tmp_path / "a")

    @pytest.mark.parametrize("kept", [0, 1, 2, 3])
    def test_with_a_ledger_that_lost_lines_is_refused(
        self, make: Make, counter: App, tmp_path: Path, kept: int
    ) -> None:
        self.finished(make, counter, tmp_path)
        ledger = tmp_path / "ledger.jsonl"
        lines = ledger.read_text().splitlines(keepends=True)
        ledger.write_text("".join(lines[:kept]))
        assert "lost entries" in self.refusal(make, tmp_path)

    def test_with_a_ledger_of_another_run_of_the_same_plan_is_refused(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        for name, seed in (("a", 1), ("b", 2)):
            train(grid(counter), training(make(), tmp_path / name, entropy=SeededEntropy(seed)))
        shutil.copy(tmp_path / "b" / "ledger.jsonl", tmp_path / "a" / "ledger.jsonl")
        assert "lost entries" in self.refusal(make, tmp_path / "a")

    def test_with_a_ledger_that_was_changed_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path)
        ledger = tmp_path / "ledger.jsonl"
        ledger.write_text(ledger.read_text().replace('"round":2', '"round":1'))
        assert "damaged at line 3" in self.refusal(make, tmp_path)

    def test_with_a_damaged_checkpoint_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path)
        checkpoint = tmp_path / "checkpoint.bract"
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
        assert "checksum" in self.refusal(make, tmp_path)

    @pytest.mark.parametrize("entropy", [SystemEntropy(), SeededEntropy(5)])
    def test_from_an_older_checkpoint_or_none_is_no_way_to_spend_twice(
        self, make: Make, counter: App, tmp_path: Path, entropy: Any
    ) -> None:
        plan, opened = make(), []
        train(grid(counter), training(plan, tmp_path, entropy=entropy))
        (tmp_path / "checkpoint.bract").unlink()
        outcome = train(grid(counter), training(plan, tmp_path, entropy=entropy, releases=spied(plan, opened.append)))
        assert outcome.stopped is not None
        assert not opened
        assert charged_rounds(tmp_path) == [1, 2, 3]

    def test_while_another_process_trains_in_the_folder_is_refused(self, make: Make, tmp_path: Path) -> None:
        plan = make()
        tmp_path.mkdir(exist_ok=True)
        with Ledger(tmp_path / "ledger.jsonl", plan.budget, plan.digest):
            assert "in use by another process" in self.refusal(make, tmp_path)

    def test_tells_the_observer_where_the_training_goes_on(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("amid exchange", make(), tmp_path, counter, 3)
        told: list[tuple[int, int]] = []

        class Watching(Silent):
            def started(self, state: ServerState, ledger: Ledger) -> None:
                told.append((state.round, len(ledger.entries)))

        train(grid(counter), training(make(), tmp_path, observer=Watching()))
        assert told == [(2, 2)]

    def test_counts_the_seconds_of_all_its_parts(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("amid exchange", make(), tmp_path, counter, 3)
        before = read_checkpoint(tmp_path / "checkpoint.bract")
        assert before is not None
        after = train(grid(counter), training(make(), tmp_path))
        assert after.state.seconds > before.seconds > 0


class TestAPlanThatCannotBeTrained:
    @pytest.mark.parametrize(
        ("tables", "what"),
        [
            ({"model": {"name": "transformer"}}, "there is no model transformer"),
            ({"model": {"name": "cnn"}}, "cnn takes records of shape"),
        ],
    )
    def test_is_refused_before_anything_is_offered(
        self, make: Make, counter: App, tmp_path: Path, tables: dict[str, Any], what: str
    ) -> None:
        with pytest.raises(PlanError, match=what):
            train(grid(counter), training(make(**tables), tmp_path))
        assert entries(tmp_path) == []


def test_the_ledger_is_let_go_of_however_the_training_ends(make: Make, counter: App, tmp_path: Path) -> None:
    plan = make()
    crashed("before release", plan, tmp_path, counter, 2)
    with Ledger(tmp_path / "ledger.jsonl", plan.budget, plan.digest) as ledger:
        assert len(ledger.entries) == 2


def test_the_budget_of_a_plan_binds_the_view_that_its_noise_protects(make: Make) -> None:
    views = {noise: make(privacy={"noise": noise}).budget for noise in NOISES}
    assert views["central"] == Budget(8.0, 1e-3, "record", "released")
    assert views["local"] == Budget(8.0, 1e-3, "record", "server")


def test_the_offer_holds_nothing_but_public_things(make: Make, counter: App, tmp_path: Path) -> None:
    seen: list[Message] = []

    def watching(message: Message, context: Context) -> Message:
        seen.append(message)
        return counter(message, context)

    train(grid(watching), training(make(), tmp_path))
    for message in seen:
        assert set(message.content) == {OFFER, PARAMETERS}
        assert set(message.content.config_records[OFFER]) == {"round", "plan"}
        [array] = message.content.array_records[PARAMETERS].values()
        assert read_parameters(array.dtype, array.shape, array.stype, array.data).shape == (COUNT,)
