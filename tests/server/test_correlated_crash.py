"""Correlated noise over the end of a process: carried on where nothing was charged since, else started afresh."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from trainings import Crash, RoundEntropy, charged_rounds, entries

from bract.privacy import Keystream, Ledger, Plan, Release, Sum, SystemEntropy, mechanism_of
from bract.privacy.mechanisms.central import Banded
from bract.privacy.mechanisms.correlation import Correlation
from bract.server import cohort as cohort_room
from bract.server import rounds
from bract.server.round_log import Metrics
from bract.server.rounds import train
from bract.server.state import ServerState, read_checkpoint, write_checkpoint
from bract.server.training import NullObserver, Outcome, TrainingRun
from bract.simulations.local_grid import LocalGrid
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
ROUNDS, BANDS, CLIENTS, COUNT = 8, 3, 12, 15

PLACES: dict[str, tuple[Any, str]] = {
    "before spend": (Ledger, "spend"),
    "after spend": (Ledger, "spend"),
    "before release": (Banded, "release"),
    "after release": (Banded, "release"),
    "before metrics": (Metrics, "write"),
    "before checkpoint": (rounds, "write_checkpoint"),
    "after checkpoint": (rounds, "write_checkpoint"),
}
"""Where a process may die, and which function is called there."""

LOST = [place for place in PLACES if place not in ("before spend", "after checkpoint")]
"""Where a release is charged that no checkpoint knows of."""


@pytest.fixture
def plan(make: Make) -> Plan:
    """Eight rounds of two of twelve clients, with three bands; there is budget for four rounds more."""
    return make(
        data={"clients": CLIENTS},
        cohort={"rounds": ROUNDS, "size": 2, "minimum": 1, "deadline": 0.01},
        privacy={"unit": "client", "sampling_rate": 1.0, "noise_multiplier": 9.0, "bands": BANDS},
    )


def trained(plan: Plan, folder: Path, app: App, entropy: Any = None, **parts: Any) -> Outcome:
    return train(
        LocalGrid(app, CLIENTS), TrainingRun(mechanism_of(plan), folder, entropy=entropy or SystemEntropy(), **parts)
    )


def crashed(place: str, plan: Plan, folder: Path, app: App, number: int, entropy: Any = None) -> None:
    """Train in the folder until the process dies at `place` of round `number`."""
    noting = RoundEntropy(entropy or SystemEntropy())
    owner, name = PLACES[place]
    original, dies_before = getattr(owner, name), place.startswith("before")

    def deadly(*arguments: Any) -> Any:
        if dies_before and noting.round == number:
            raise Crash
        result = original(*arguments)
        if noting.round == number:
            raise Crash
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, deadly)
        with pytest.raises(Crash):
            trained(plan, folder, app, noting)


@contextmanager
def drawn() -> Iterator[list[tuple[Correlation, Correlation]]]:
    """What each round's noise was made of, and what it left for the next."""
    told: list[tuple[Correlation, Correlation]] = []
    release = Banded.release

    def watched(
        self: Banded, total: Sum, round: int, noise: Keystream, past: Correlation
    ) -> tuple[Release, Correlation | None]:
        released, after = release(self, total, round, noise, past)
        assert after is not None
        told.append((past, after))
        return released, after

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Banded, "release", watched)
        yield told


def checkpoint(folder: Path) -> ServerState:
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    return state


def numbers(state: ServerState) -> list[bytes]:
    """All numbers of a state."""
    assert state.noise is not None
    return [v.tobytes() for v in (state.parameters, state.model, state.noise.weights, *state.noise.past)]


def starts_afresh(plan: Plan, folder: Path, app: App) -> None:
    """See a training in this folder start its noise afresh, and let clients rest from then on."""
    head, before = entries(folder)[-1]["hash"], len(entries(folder))
    with drawn() as told:
        trained(plan, folder, app)
    assert [len(made_of.past) for made_of, _ in told][:4] == [0, 1, 2, 2]
    assert checkpoint(folder).block == head
    seen: dict[int, list[int]] = {}
    for entry in entries(folder)[before:]:
        for client in entry["clients"]:
            seen.setdefault(client, []).append(entry["round"])
    assert all(b - a >= BANDS for rows in seen.values() for a, b in pairwise(rows))


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("place", LOST)
def test_after_an_unknown_release_noise_starts_afresh(
    plan: Plan, counter: App, tmp_path: Path, place: str, number: int
) -> None:
    """A release that no checkpoint knows of."""
    crashed(place, plan, tmp_path, counter, number)
    starts_afresh(plan, tmp_path, counter)
    assert charged_rounds(tmp_path) == [*range(1, number + 1), *range(number, ROUNDS + 1)]


@pytest.mark.parametrize("place", ["before spend", "after checkpoint"])
def test_where_nothing_was_charged_the_noise_is_carried_on(
    plan: Plan, counter: App, tmp_path: Path, place: str
) -> None:
    """The very same noise, if nothing was charged since."""
    with drawn() as before:
        crashed(place, plan, tmp_path, counter, 4)
    kept = before[-1][1]
    assert len(kept.past) == BANDS - 1
    with drawn() as after:
        trained(plan, tmp_path, counter)
    carried = after[0][0]
    assert [v.tobytes() for v in carried.past] == [v.tobytes() for v in kept.past]
    assert carried.weights.tolist() == kept.weights.tolist()
    assert charged_rounds(tmp_path) == list(range(1, ROUNDS + 1))


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("place", PLACES)
def test_a_crash_of_a_seeded_run_changes_and_costs_nothing(
    plan: Plan, counter: App, tmp_path: Path, place: str, number: int
) -> None:
    seed = SeededEntropy(5)
    whole = trained(plan, tmp_path / "whole", counter, seed).state
    crashed(place, plan, tmp_path / "crashed", counter, number, seed)
    resumed = trained(plan, tmp_path / "crashed", counter, seed).state
    assert numbers(resumed) == numbers(whole)
    assert numbers(checkpoint(tmp_path / "crashed")) == numbers(whole)
    assert (tmp_path / "crashed" / "ledger.jsonl").read_bytes() == (tmp_path / "whole" / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize("entropy", [SystemEntropy(), SeededEntropy(5)])
def test_an_older_checkpoint_starts_afresh_and_is_charged_again(
    plan: Plan, counter: App, tmp_path: Path, entropy: Any
) -> None:
    crashed("after checkpoint", plan, tmp_path, counter, 3, entropy)
    shutil.copy(tmp_path / "checkpoint.bract", tmp_path / "older")
    crashed("after checkpoint", plan, tmp_path, counter, 5, entropy)
    shutil.copy(tmp_path / "older", tmp_path / "checkpoint.bract")
    with drawn() as told:
        trained(plan, tmp_path, counter, entropy)
    assert [len(made_of.past) for made_of, _ in told][:3] == [0, 1, 2]
    assert charged_rounds(tmp_path)[:8] == [1, 2, 3, 4, 5, 4, 5, 6]


def test_a_lost_checkpoint_starts_afresh(plan: Plan, counter: App, tmp_path: Path) -> None:
    crashed("after checkpoint", plan, tmp_path, counter, 2)
    (tmp_path / "checkpoint.bract").unlink()
    starts_afresh(plan, tmp_path, counter)


def test_a_second_crash_starts_noise_afresh_once_more(plan: Plan, counter: App, tmp_path: Path) -> None:
    """Before the next checkpoint."""
    for _ in range(2):
        crashed("after spend", plan, tmp_path, counter, 4)
    starts_afresh(plan, tmp_path, counter)
    assert charged_rounds(tmp_path)[:6] == [1, 2, 3, 4, 4, 4]


def test_who_was_in_a_lost_round_may_repeat_it_and_pays_twice(
    plan: Plan, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed("after spend", plan, tmp_path, counter, 3)
    lost = entries(tmp_path)[-1]["clients"]
    choose = cohort_room.choose_cohort

    def again(available: list[int], counts: Any, size: int, limit: int, keystream: Keystream) -> list[int]:
        chosen = [client for client in lost if client in available]
        return chosen if len(entries(tmp_path)) == 3 else choose(available, counts, size, limit, keystream)

    monkeypatch.setattr(cohort_room, "choose_cohort", again)
    trained(plan, tmp_path, counter)
    assert [entry["clients"] for entry in entries(tmp_path)][2:4] == [lost, lost]
    assert len({entry["release"] for entry in entries(tmp_path)}) == len(entries(tmp_path))


def test_a_resumed_training_keeps_the_weights_that_it_has(
    plan: Plan, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed("after checkpoint", plan, tmp_path, counter, 4)
    first = checkpoint(tmp_path).noise
    monkeypatch.setattr(Banded, "weights", lambda self, dimension: np.array([1 << 16, 1, 1]))
    last = trained(plan, tmp_path, counter).state.noise
    assert first is not None
    assert last is not None
    assert last.weights.tolist() == first.weights.tolist() != [1 << 16, 1, 1]


class TestTheCheckpoint:
    def state(self, past: int, count: int = COUNT) -> ServerState:
        rng = np.random.default_rng(past)
        vectors = tuple(rng.integers(-(2**60), 2**60, count) for _ in range(past))
        none = np.zeros(count, dtype=np.float32)
        noise = Correlation(np.array([65536, 32768, 24576, 12345], dtype=np.int64)[: max(past + 1, 2)], vectors)
        return ServerState(
            past, none, none, {"momentum_buffer": none}, "a" * 64, "b" * 64, noise=noise, block="c" * 64
        )

    @pytest.mark.parametrize("past", [0, 1, 3])
    def test_holds_the_noise_to_the_last_bit(self, tmp_path: Path, past: int) -> None:
        state = self.state(past)
        write_checkpoint(tmp_path / "checkpoint", state)
        found = read_checkpoint(tmp_path / "checkpoint")
        assert found is not None
        assert numbers(found) == numbers(state)
        assert found.noise is not None
        assert {v.dtype for v in (found.noise.weights, *found.noise.past)} == {np.dtype(np.int64)}
        assert (found.block, set(found.optimizer)) == ("c" * 64, {"momentum_buffer"})

    def test_is_for_its_owner_alone_whatever_was_there_before(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint"
        for left in (path, path.with_name("checkpoint.draft")):
            left.write_bytes(b"left")
            left.chmod(0o666)
        write_checkpoint(path, self.state(2))
        assert path.stat().st_mode & 0o777 == 0o600

    def test_of_a_whole_training_is_so_from_the_first_on(self, plan: Plan, counter: App, tmp_path: Path) -> None:
        modes: list[int] = []

        class Looking(NullObserver):
            def started(self, state: ServerState, ledger: Ledger) -> None:
                modes.append((tmp_path / "checkpoint.bract").stat().st_mode & 0o777)

            def finished_round(self, record: object) -> None:
                modes.append((tmp_path / "checkpoint.bract").stat().st_mode & 0o777)

        trained(plan, tmp_path, counter, observer=Looking())
        assert modes == [0o600] * (ROUNDS + 1)

    def test_prints_none_of_it(self) -> None:
        assert "123" not in repr(self.state(3).noise) + repr(self.state(3))
