"""What a crash of the round loop leaves, wherever the process dies, and how the training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from trainings import Crash, RoundEntropy, charged_rounds, entries, grid, training

from bract.privacy import Ledger, Mechanism, Plan, SystemEntropy, mechanism_of
from bract.privacy.mechanisms.central import Central
from bract.privacy.messages import PARAMETERS
from bract.server import rounds
from bract.server.aggregation import plain as plain_sum
from bract.server.round_log import Metrics
from bract.server.rounds import train
from bract.server.state import ServerState, read_checkpoint
from bract.server.training import NullObserver, TrainingRun
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
NOISES = ["central", "local"]


def crash() -> Any:
    raise Crash


PLACES: dict[str, tuple[Any, str]] = {
    "amid exchange": (plain_sum, "exchange"),
    "before spend": (Ledger, "spend"),
    "after spend": (Ledger, "spend"),
    "before release": (Mechanism, "release"),
    "after release": (Mechanism, "release"),
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
    noting = RoundEntropy(entropy or SeededEntropy(5))
    owner, name = PLACES[place]
    owner = type(mechanism_of(plan)) if owner is Mechanism else owner
    when = place.split()[0]

    def now() -> bool:
        return noting.round == number

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, deadly(getattr(owner, name), when, now))
        with pytest.raises(Crash):
            train(grid(app), training(plan, folder, entropy=noting))


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
    def test_after_the_charge_costs_a_second_one_unless_seeded(
        self, make: Make, counter: App, tmp_path: Path, place: str, noise: str
    ) -> None:
        plan = make(privacy={"noise": noise})
        crashed(place, plan, tmp_path, counter, 2, entropy=SystemEntropy())
        assert charged_rounds(tmp_path) == [1, 2]
        outcome = train(grid(counter), TrainingRun(mechanism_of(plan), tmp_path))
        assert charged_rounds(tmp_path) == [1, 2, 2]
        assert outcome.state.round == 2  # the third release was paid for by the one that was lost
        assert outcome.stopped is not None
        assert outcome.epsilon["released"] == pytest.approx(mechanism_of(plan).cost())
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
        train(grid(watching), TrainingRun(mechanism_of(make()), tmp_path))
        assert offered[0] == first.parameters.astype("<f4").tobytes()

    def test_before_the_charge_costs_nothing(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("before spend", make(), tmp_path, counter, 2, entropy=SystemEntropy())
        outcome = train(grid(counter), TrainingRun(mechanism_of(make()), tmp_path))
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

        class Watched(Central):
            def release(self, *arguments: Any) -> Any:
                released = super().release(*arguments)
                noised.append(released[0].vector)
                return released

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(rounds, "average", lambda plan, number, *rest: crash() if number == 2 else rest[-1])
            with pytest.raises(Crash):
                train(grid(counter), training(plan, tmp_path, Watched(plan)))
        train(grid(counter), training(plan, tmp_path, Watched(plan)))
        assert len(noised) == 4
        assert np.array_equal(noised[1], noised[2])


class TestResuming:
    def test_tells_the_observer_where_the_training_goes_on(self, make: Make, counter: App, tmp_path: Path) -> None:
        crashed("amid exchange", make(), tmp_path, counter, 3)
        told: list[tuple[int, int]] = []

        class Watching(NullObserver):
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


def test_the_ledger_is_let_go_of_however_the_training_ends(make: Make, counter: App, tmp_path: Path) -> None:
    plan = make()
    crashed("before release", plan, tmp_path, counter, 2)
    with Ledger(tmp_path / "ledger.jsonl", mechanism_of(plan).budget, plan.digest) as ledger:
        assert len(ledger.entries) == 2
