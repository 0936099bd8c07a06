"""Noise that later rounds take back, in the round loop: what it comes to, who may be in a round, and who waits."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations_with_replacement, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from scipy.linalg import toeplitz
from scipy.stats import chi2, norm

from bract.privacy import BudgetError, Keystream, Plan, RoundError, Sum, mechanism_of
from bract.privacy.mechanisms.central import Banded
from bract.privacy.mechanisms.correlation import Correlation
from bract.privacy.mechanisms.factorisation import deviations, relative_error
from bract.privacy.messages import OFFER, read_offer
from bract.server import cohort as cohort_room
from bract.server.cohort import Participations, too_few_clients
from bract.server.round_log import RoundRecord
from bract.server.rounds import train
from bract.server.state import read_checkpoint
from bract.server.training import NullObserver, TrainingRun
from bract.simulations.local_grid import LocalGrid
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
ROUNDS, BANDS, SIZE, CLIENTS = 12, 3, 2, 8
WIDE = (1, 64, 64)
CLIENT = {"unit": "client", "noise": "central", "sampling_rate": 1.0, "noise_multiplier": 3.0}


@pytest.fixture
def banded(make: Make) -> Make:
    """A function: a plan of twelve rounds of two of eight clients with three bands, changed by its tables."""

    def plan(**tables: dict[str, Any]) -> Plan:
        base: dict[str, dict[str, Any]] = {
            "data": {"clients": CLIENTS},
            "cohort": {"rounds": ROUNDS, "size": SIZE, "minimum": 1, "deadline": 5.0},
            "privacy": {**CLIENT, "bands": BANDS},
        }
        return make(**{name: base.get(name, {}) | tables.get(name, {}) for name in {*base, *tables}})

    return plan


def training(plan: Plan, folder: Path, **parts: Any) -> TrainingRun:
    return TrainingRun(mechanism_of(plan), folder, **({"entropy": SeededEntropy(5)} | parts))


def banded_of(plan: Plan) -> Banded:
    mechanism = mechanism_of(plan)
    assert isinstance(mechanism, Banded)
    return mechanism


def cohorts(folder: Path) -> list[tuple[int, list[int]]]:
    lines = (folder / "ledger.jsonl").read_text().splitlines()[1:]
    return [(entry["round"], entry["clients"]) for entry in map(json.loads, lines)]


def least_gap(folder: Path) -> int:
    """How many rounds lie between two of the same client, at least."""
    seen: dict[int, list[int]] = {}
    for number, clients in cohorts(folder):
        for client in clients:
            seen.setdefault(client, []).append(number)
    return min(b - a for numbers in seen.values() for a, b in pairwise(numbers))


class Keeping(NullObserver):
    """Keeps the model after every round, as the checkpoint has it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models = folder, list[np.ndarray]()

    def started(self, state: Any, ledger: object) -> None:
        self.models.append(state.parameters.astype(np.float64))

    def finished_round(self, record: RoundRecord) -> None:
        state = read_checkpoint(self.folder / "checkpoint.bract")
        assert state is not None
        self.models.append(state.parameters.astype(np.float64))


@pytest.fixture
def silent_devices(update: Any) -> Callable[[Plan], App]:
    """A function: devices that send zeros, so that the model is noise alone."""

    def made(plan: Plan) -> App:
        mechanism = mechanism_of(plan)
        count = mechanism.coordinates(3 * math.prod(WIDE) + 3)
        zeros = mechanism.grid.ring.encode(np.zeros(count, dtype=np.int64))
        return lambda message, context: Message(update(zeros), reply_to=message)

    return made


@pytest.fixture
def noise_of(silent_devices: Callable[[Plan], App], tmp_path: Path) -> Callable[[Plan, int], np.ndarray]:
    """A function: the noise in the model after each round, [rounds, parameters], in standard deviations of what a
    plan adds to one sum where it is independent."""

    def made(plan: Plan, seed: int) -> np.ndarray:
        folder = tmp_path / f"{plan.bands}-{seed}"
        keeping = Keeping(folder)
        grid = LocalGrid(silent_devices(plan), plan.data.clients)
        train(grid, training(plan, folder, observer=keeping, entropy=SeededEntropy(seed)))
        models = np.array(keeping.models)
        noise = (models[1:] - models[0]) * plan.cohort.size
        return noise / mechanism_of(plan).noise_std(noise.shape[1])

    return made


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_is_released_is_correlated_as_its_weights_say(
    banded: Make, noise_of: Callable[[Plan, int], np.ndarray], momentum: float
) -> None:
    """C times the releases is white, of norm |w|: 78 variances and covariances, each with a false alarm of 1e-9."""
    plan = banded(data={"shape": list(WIDE)}, server={"momentum": momentum})
    models = noise_of(plan, 1)
    steps = np.diff(models, axis=0, prepend=0.0)
    released = steps - momentum * np.vstack([np.zeros(models.shape[1]), steps[:-1]])
    count = released.shape[1]
    weights = banded_of(plan).weights(count)
    assert len(weights) == BANDS
    column = np.zeros(ROUNDS)
    column[:BANDS] = weights / np.linalg.norm(weights.astype(float))
    white = toeplitz(column, np.zeros(ROUNDS)) @ released
    for one, other in combinations_with_replacement(range(ROUNDS), 2):
        product = float(white[one] @ white[other])
        if one == other:
            assert chi2.ppf(5e-10, count) < product < chi2.isf(5e-10, count)
        else:
            assert abs(product) < norm.isf(5e-10) * math.sqrt(count)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_noise_in_the_model_is_as_little_as_predicted(
    banded: Make, noise_of: Callable[[Plan, int], np.ndarray], momentum: float
) -> None:
    """Chi-square on each round's variance, two-sided: false alarm 1e-9 a round; independent noise for comparison."""
    tables: dict[str, Any] = {"data": {"shape": list(WIDE)}, "server": {"momentum": momentum}}
    plan, independent = banded(**tables), banded(**tables, privacy={"bands": 1})
    squares = {}
    for each, weights in ((plan, banded_of(plan).weights(12_291)), (independent, [1.0])):
        noise = noise_of(each, 2)
        squares[each.bands] = (noise**2).sum()
        for row, predicted in zip(noise, deviations(weights, ROUNDS, momentum), strict=True):
            ratio = float(row @ row) / predicted**2
            assert chi2.ppf(5e-10, len(row)) < ratio < chi2.isf(5e-10, len(row))
    found = math.sqrt(squares[BANDS] / squares[1])
    assert found == pytest.approx(relative_error(ROUNDS, BANDS, momentum), rel=0.03)
    assert found < 0.75


def test_one_band_and_none_release_the_very_same(banded: Make, counter: App, tmp_path: Path) -> None:
    models = []
    for bands in (None, 1):
        plan = banded(privacy={"bands": bands})
        models.append(train(LocalGrid(counter, CLIENTS), training(plan, tmp_path / str(bands))).state)
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes()
    assert [state.noise for state in models] == [None, None]


@pytest.mark.parametrize(("clients", "size", "bands"), [(6, 2, 3), (7, 2, 3), (16, 2, 8), (9, 1, 8), (8, 2, 3)])
def test_cohorts_are_full_and_clients_rest_between_bands(
    banded: Make, counter: App, tmp_path: Path, clients: int, size: int, bands: int
) -> None:
    """No client is back before as many rounds as there are bands."""
    plan = banded(data={"clients": clients}, cohort={"size": size}, privacy={"bands": bands})
    outcome = train(LocalGrid(counter, clients), training(plan, tmp_path))
    assert (outcome.state.round, outcome.stopped) == (ROUNDS, None)
    assert [len(chosen) for _, chosen in cohorts(tmp_path)] == [size] * ROUNDS
    assert bands <= least_gap(tmp_path)


def test_without_bands_clients_come_back_earlier(banded: Make, counter: App, tmp_path: Path) -> None:
    plan = banded(data={"clients": 7}, privacy={"bands": 1})
    train(LocalGrid(counter, 7), training(plan, tmp_path))
    assert least_gap(tmp_path) < 3


def test_devices_that_drop_out_bring_no_others_back_early(
    banded: Make, counter: App, tmp_path: Path, refusing: Callable[..., App]
) -> None:
    """The first that is asked in each round of even number; it was in no sum, so it need not rest."""
    asked: dict[int, int] = {}

    def flaky(message: Message, context: Context) -> Message:
        number = read_offer(message.content.config_records[OFFER]).round
        first = asked.setdefault(number, context.node_id)
        return refusing(counter, {first} if number % 2 == 0 else set())(message, context)

    outcome = train(LocalGrid(flaky, CLIENTS), training(banded(), tmp_path))
    assert outcome.state.round == ROUNDS
    assert [len(chosen) for _, chosen in cohorts(tmp_path)] == [2, 1] * (ROUNDS // 2)
    assert least_gap(tmp_path) >= BANDS


def test_a_client_that_is_back_too_early_ends_the_round(
    banded: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever chose the cohort."""
    released: list[int] = []
    release = Banded.release
    monkeypatch.setattr(Banded, "release", lambda *a: released.append(1) or release(*a))
    monkeypatch.setattr(cohort_room, "choose_cohort", lambda available, *rest: ["0", "1"])
    with pytest.raises(ValueError, match="2 clients are back in round 2 before 3 rounds have passed"):
        train(LocalGrid(counter, CLIENTS), training(banded(), tmp_path))
    assert cohorts(tmp_path) == [(1, ["0", "1"])]
    assert len(released) == 1


class Arriving(LocalGrid):
    """A grid to which one device more connects each time that somebody looks, from `first` on."""

    def __init__(self, app: App, clients: int, first: int) -> None:
        super().__init__(app, clients)
        self.connected = first

    def get_node_ids(self) -> list[int]:
        found = list(super().get_node_ids())[: self.connected]
        self.connected += 1
        return found


def test_a_round_waits_for_enough_devices_that_may_be_in_it(
    banded: Make, counter: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bract.server.exchange.POLL_SECONDS", 0.001)
    outcome = train(Arriving(counter, CLIENTS, first=1), training(banded(), tmp_path))
    assert outcome.state.round == ROUNDS
    assert [len(chosen) for _, chosen in cohorts(tmp_path)] == [SIZE] * ROUNDS
    assert least_gap(tmp_path) >= BANDS


def test_a_round_of_resting_devices_ends_by_name(banded: Make, counter: App, tmp_path: Path) -> None:
    """More of them go on."""
    plan = banded(cohort={"deadline": 0.01})
    with pytest.raises(RoundError) as caught:
        train(LocalGrid(counter, 4), training(plan, tmp_path))
    assert caught.value.what == "of 4 connected devices too few sat out the 2 rounds after their last one"
    assert "privacy.bands" in caught.value.hint
    assert [number for number, _ in cohorts(tmp_path)] == [1, 2]
    assert train(LocalGrid(counter, CLIENTS), training(plan, tmp_path)).state.round == ROUNDS
    assert least_gap(tmp_path) >= BANDS


def test_why_a_round_has_no_cohort_is_told_apart(banded: Make) -> None:
    plan = banded(cohort={"minimum": 2})
    clients, often = [str(number) for number in range(CLIENTS)], plan.participations
    new, done = Participations(Counter()), Participations(Counter(dict.fromkeys("012", often)))
    for past, connected, kind, says in [
        (new, 1, RoundError, "1 devices are connected, the round needs 2"),
        (done, 4, BudgetError, "every available client took part as often as planned"),
        (new.then(1, clients), 4, RoundError, "of 4 connected devices too few sat out the 2 rounds"),
        (done, 5, RoundError, "of 2 connected devices too few sat out the 2 rounds"),
        (new.then(1, clients), CLIENTS, BudgetError, "the only clients left took part too recently"),
    ]:
        fault = too_few_clients(plan, past, {name: int(name) for name in clients[:connected]})
        assert isinstance(fault, kind)
        assert says in fault.what


def test_a_sum_that_wrapped_around_is_released_as_if_it_had_not(banded: Make) -> None:
    """A hostile device can bring a coordinate there: noise then must not depend on which side a record tips it to."""
    mechanism, count = banded_of(banded()), 1000
    past = tuple(np.arange(count) * number for number in (1, -7))
    total = np.random.default_rng(3).integers(-mechanism.grid.bound, mechanism.grid.bound, count)
    released = []
    for shift in (0, 1 << mechanism.grid.ring.bits):
        state = Correlation(mechanism.weights(count), past)
        release, after = mechanism.release(Sum(total + shift), 1, Keystream(bytes(32)), state)
        assert after is not None
        released.append((release.vector.tobytes(), after.past[0].tobytes()))
    assert released[0] == released[1]
