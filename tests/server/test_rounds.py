"""The round loop on a LocalGrid, with devices that only count: what is offered, summed, released and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from trainings import CLIENTS, charged_rounds, entries, grid, training

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records, make_records
from bract.client.terms import Terms
from bract.privacy import DivergedError, Ledger, Plan, PlanError, mechanism_of
from bract.privacy.messages import OFFER, PARAMETERS, Offer, read_offer, read_parameters
from bract.server import rounds
from bract.server.evaluation.evaluate import Quality, make_evaluate
from bract.server.round_log import RoundRecord
from bract.server.rounds import train
from bract.server.state import ServerState, read_checkpoint
from bract.server.training import NullObserver, TrainingRun
from bract.simulations.local_grid import FIRST_NODE
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
Call = Callable[..., Any]
COUNT = 15
NOISES = ["central", "local"]


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

    def test_offers_each_round_its_number_plan_and_parameters(self, make: Make, counter: App, tmp_path: Path) -> None:
        """The public plan, and the parameters of the round before."""
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

    @pytest.mark.parametrize(("noise", "bits"), [("central", 32), ("central", 64), ("local", 12), ("local", 64)])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_opens_the_exact_sum_of_the_updates_that_came(
        self, make: Make, tmp_path: Path, update: Any, refusing: Call, spied: Call, noise: str, bits: int, sign: int
    ) -> None:
        """At the top of what a device may send."""
        plan = make(cohort={"rounds": 1}, privacy={"noise": noise}, aggregation={"bits": bits})
        mechanism = mechanism_of(plan)
        sums: list[np.ndarray] = []

        def app(message: Message, context: Context) -> Message:
            numbers = np.full(COUNT, sign * (mechanism.grid.bound - context.node_id), dtype=np.int64)
            return Message(update(mechanism.grid.ring.encode(numbers)), reply_to=message)

        train(
            grid(refusing(app, {FIRST_NODE})),
            training(plan, tmp_path, mechanism=spied(plan, lambda s: sums.append(s.vector.copy()))),
        )
        expected = sign * (3 * mechanism.grid.bound - sum(range(FIRST_NODE + 1, FIRST_NODE + CLIENTS)))
        assert [s.tolist() for s in sums] == [[expected] * COUNT]

    def test_leaves_malformed_updates_out_of_sum_and_charge(
        self, make: Make, counter: App, tmp_path: Path, update: Any
    ) -> None:
        def app(message: Message, context: Context) -> Message:
            if context.node_id == FIRST_NODE:
                return Message(update(np.zeros(mechanism_of(plan).grid.ring.words(COUNT) + 1)), reply_to=message)
            return counter(message, context)

        plan = make(cohort={"rounds": 1})
        outcome = train(grid(app), training(plan, tmp_path))
        assert outcome.records[0].survivors == 3
        assert outcome.records[0].codes == {"ok": 3, "malformed": 1}
        assert entries(tmp_path)[0]["clients"] == ["1", "2", "3"]

    @pytest.mark.parametrize(("noise", "charged"), [("central", 2), ("local", 4)])
    def test_charges_survivors_or_all_by_who_adds_the_noise(
        self, make: Make, counter: App, tmp_path: Path, noise: str, charged: int, refusing: Call
    ) -> None:
        """Those in the sum where the server noises, and all that were asked where devices do."""
        app = refusing(counter, {FIRST_NODE, FIRST_NODE + 2})
        train(grid(app), training(make(privacy={"noise": noise}, cohort={"rounds": 1}), tmp_path))
        assert len(entries(tmp_path)[0]["clients"]) == charged

    def test_divides_by_public_numbers_and_not_by_who_answered(
        self, make: Make, tmp_path: Path, update: Any, refusing: Call
    ) -> None:
        """With the same sum, one survivor or four, the released change is the same."""

        def app(message: Message, context: Context) -> Message:
            value = mechanism_of(plan).grid.bound if context.node_id == FIRST_NODE else 0
            return Message(update(mechanism_of(plan).grid.ring.encode(np.full(COUNT, value))), reply_to=message)

        plan = make(cohort={"rounds": 1, "minimum": 1})
        others = set(range(FIRST_NODE + 1, FIRST_NODE + CLIENTS))
        alone = train(grid(refusing(app, others)), training(plan, tmp_path / "alone")).state
        together = train(grid(app), training(plan, tmp_path / "together")).state
        assert np.array_equal(alone.parameters, together.parameters)

    def test_says_infinite_against_a_server_that_adds_the_noise(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        outcome = train(grid(counter), training(make(), tmp_path))
        assert [record.epsilon["server"] for record in outcome.records] == [None] * 3
        released = [record.epsilon["released"] for record in outcome.records]
        assert 0 < released[0] < released[1] < released[2] <= 8.0
        assert released[2] == pytest.approx(mechanism_of(make()).cost())

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
        models = [
            train(grid(counter), TrainingRun(mechanism_of(plan), tmp_path / str(n))).state.model for n in range(2)
        ]
        assert not np.array_equal(*models)

    def test_deals_the_cohorts_round_robin(self, make: Make, counter: App, tmp_path: Path) -> None:
        train(grid(counter), training(make(cohort={"size": 2, "rounds": 6}), tmp_path))
        taken = Counter(client for entry in entries(tmp_path) for client in entry["clients"])
        assert set(taken.values()) == {3}

    @pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [2, 3]), (5, [3])])
    def test_tests_its_model_as_often_as_the_plan_says(
        self, make: Make, counter: App, tmp_path: Path, every: int, expected: list[int]
    ) -> None:
        """And at the end."""
        tested: list[np.ndarray] = []

        def evaluate(model: np.ndarray) -> Quality:
            tested.append(model.copy())
            return Quality(1.0, {"accuracy": 0.5})

        plan = make(server={"evaluate_every": every, "averaging": 0.9})
        outcome = train(grid(counter), training(plan, tmp_path, evaluate=evaluate))
        assert [record.round for record in outcome.records if record.figures is not None] == expected
        assert len(tested) == len(expected)
        assert np.array_equal(tested[-1], outcome.state.model)
        assert not np.array_equal(outcome.state.model, outcome.state.parameters)

    def test_tells_its_observer_of_every_answer_and_round(self, make: Make, counter: App, tmp_path: Path) -> None:
        """They come in turn."""
        told: list[str] = []

        class Watching(NullObserver):
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
        terms = Terms(trusted_server=True, clear_updates=True, max_epsilon=1e6)
        app = make_app(lambda c: Device(devices[c.node_id], terms))
        plan = make(
            cohort={"rounds": 8},
            training={"batch_size": 20, "learning_rate": 3.0},
            privacy={"epsilon": 1e6, "noise_multiplier": 0.3},
        )
        evaluate = make_evaluate(plan, features, labels)
        outcome = train(
            grid(app), TrainingRun(mechanism_of(plan), tmp_path, evaluate=evaluate, entropy=SeededEntropy(1))
        )
        assert outcome.records[-1].figures["accuracy"] > 0.8


class TestAModelThatDiverged:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_ends_the_training_and_keeps_the_last_finite_one(
        self, make: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float, spied: Call
    ) -> None:
        """It ends before such a model is offered: devices would answer `malformed` one after the other."""
        offered: list[bool] = []
        whole = rounds.step

        def diverging(*arguments: Any) -> Any:
            parameters, optimizer = whole(*arguments)
            if len(offered) > make().cohort.size:  # in the second round
                parameters[1] = bad
            return parameters, optimizer

        def watching(message: Message, context: Context) -> Message:
            [array] = message.content.array_records[PARAMETERS].values()
            offered.append(bool(np.isfinite(np.frombuffer(array.data, "<f4")).all()))
            return counter(message, context)

        monkeypatch.setattr(rounds, "step", diverging)
        plan = make()
        with pytest.raises(DivergedError) as caught:
            train(grid(watching), training(plan, tmp_path))
        assert "no longer finite" in caught.value.what
        assert "lower learning rate" in caught.value.hint
        assert offered
        assert all(offered)
        state = read_checkpoint(tmp_path / "checkpoint.bract")
        assert state is not None
        assert np.isfinite(state.parameters).all()
        assert charged_rounds(tmp_path) == list(range(1, state.round + 2))


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
