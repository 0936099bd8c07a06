"""A device's share of noise that all bring together: what is in it, for whom it is sized, and what it hides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bract.privacy import Clipped, Contribution, Keystream, Plan, mechanism_of
from bract.privacy.encoding.quantization import round_randomly
from bract.privacy.encoding.rotation import padded, rotate
from bract.privacy.mechanisms import distributed
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.noise.skellam import skellam
from bract.privacy.secagg.masks import Mask, add_masks

Make = Callable[..., Plan]
Shared = Callable[..., Distributed]
COUNT, DEVICES, ROUNDS = 4000, 6, 12
SIZE = padded(COUNT)


@pytest.fixture
def shared(make: Make) -> Shared:
    """A function: the mechanism of a plan of six devices that share the noise."""

    def mechanism(**privacy: Any) -> Distributed:
        plan = make(
            data={"clients": DEVICES},
            model={"parameters": COUNT},
            cohort={"size": DEVICES},
            privacy={"noise": "distributed", "epsilon": 1e9, **privacy},
            aggregation={"protocol": "secagg"},
        )
        found = mechanism_of(plan)
        assert isinstance(found, Distributed)
        return found

    return mechanism


def key(*numbers: int) -> Keystream:
    return Keystream(bytes([*numbers, *[0] * (32 - len(numbers))]))


def change(device: int, scale: float = 0.01) -> np.ndarray:
    return scale * np.random.default_rng(device).normal(size=COUNT)


def share(mechanism: Distributed, vector: np.ndarray, number: int, keystream: Keystream) -> np.ndarray:
    """What a device with this vector adds to the sum of a round."""
    return mechanism.contribute(Clipped(vector), number, lambda *_: keystream).vector


def noise_of_sums(mechanism: Distributed) -> tuple[np.ndarray, np.ndarray]:
    """What the sums of some rounds are off, in steps, and the chance of each rounding up: devices first."""
    errors, ups = [], []
    for number in range(1, ROUNDS + 1):
        total = sum(share(mechanism, change(d), number, key(number, d)) for d in range(DEVICES))
        true = [rotate(change(d), mechanism.rotation(number)) / mechanism.grid.step for d in range(DEVICES)]
        errors.append(total - np.sum(true, axis=0))
        ups.append(np.array(true) % 1)
    return np.concatenate(errors), np.concatenate(ups, axis=1)


@pytest.mark.parametrize("noise_multiplier", [0.03, 1.0, 20.0])
def test_a_sums_noise_has_the_moments_of_shares_and_roundings(shared: Shared, noise_multiplier: float) -> None:
    """Cumulants add: of a Skellam share all even ones are its variance; of a rounding they are a coin's."""
    mechanism = shared(noise_multiplier=noise_multiplier)
    errors, ups = noise_of_sums(mechanism)
    coins = ups * (1 - ups)
    variance = DEVICES * mechanism.share_variance + coins.sum(axis=0).mean()
    fourth = DEVICES * mechanism.share_variance + (coins * (1 - 6 * coins)).sum(axis=0).mean()
    count, std = len(errors), math.sqrt(variance)
    kurtosis = 3 + fourth / variance**2
    # six standard errors each: a false alarm in 2e-9 of seeds a figure, and the seeds are fixed
    assert abs(errors.mean()) < 6 * std / math.sqrt(count)
    assert abs(errors.var() / variance - 1) < 6 * math.sqrt((kurtosis - 1) / count)
    assert abs((errors**4).mean() / variance**2 - kurtosis) < 6 * math.sqrt(24 / count) * (kurtosis / 3) ** 2
    assert abs((errors**3).mean() / std**3) < 6 * math.sqrt(6 / count) * (kurtosis / 3) ** 2
    claimed = mechanism.numbers.honest * mechanism.share_variance * mechanism.grid.step**2
    assert claimed == pytest.approx(mechanism.noise_std(COUNT) ** 2)


def test_a_share_is_the_rounded_vector_and_a_skellam_draw(shared: Shared) -> None:
    mechanism, draws = shared(), key(1)
    expected = round_randomly(rotate(change(0), mechanism.rotation(3)), mechanism.grid.step, draws)
    expected = expected + skellam(mechanism.share_variance, SIZE, draws)
    found = mechanism.contribute(Clipped(change(0)), 3, lambda *_: key(1))
    assert isinstance(found, Contribution)
    assert found.vector.dtype == np.int64
    assert np.array_equal(found.vector, expected)
    assert repr(found) == f"Contribution(shape=({SIZE},), dtype=int64)"


def test_after_the_rounding_there_are_whole_numbers_alone(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rounded is added to bit for bit, as large as it may be."""
    rounded = np.random.default_rng(0).integers(-(2**60), 2**60, SIZE) | 1
    noise = np.random.default_rng(1).integers(-(2**60), 2**60, SIZE)
    monkeypatch.setattr(distributed, "round_randomly", lambda *_: rounded)
    monkeypatch.setattr(distributed, "skellam", lambda *_: noise)
    assert np.array_equal(share(shared(), change(0), 1, key(1)), rounded + noise)


def test_the_noise_does_not_depend_on_the_vector(shared: Shared) -> None:
    mechanism = shared()
    zeros = share(mechanism, np.zeros(COUNT), 1, key(2))
    for scale in (1e-9, 1.0):
        rounded = round_randomly(rotate(change(0, scale), mechanism.rotation(1)), mechanism.grid.step, key(2))
        assert np.array_equal(share(mechanism, change(0, scale), 1, key(2)) - rounded, zeros)


def test_shares_of_two_draws_have_nothing_in_common(shared: Shared) -> None:
    mechanism, nothing, draws = shared(), np.zeros(COUNT), key(3)
    found = [share(mechanism, nothing, 1, keystream) for keystream in (draws, draws, key(4), key(5))]
    for one in range(len(found)):
        for other in range(one):
            assert abs(np.corrcoef(found[one], found[other])[0, 1]) < 6 / math.sqrt(SIZE)  # false alarm 2e-9


def test_a_round_turns_vectors_its_own_way_and_all_alike(shared: Shared) -> None:
    mechanism = shared(noise_multiplier=0.03)
    turned = [share(mechanism, change(0, 1.0), number, key(6)) for number in (1, 1, 2)]
    assert np.array_equal(turned[0], turned[1])
    assert abs(np.corrcoef(turned[0], turned[2])[0, 1]) < 6 / math.sqrt(SIZE)  # false alarm 2e-9
    other = share(mechanism, change(0, 1.0), 1, key(7))
    assert np.corrcoef(turned[0], other)[0, 1] > 0.99


def test_a_share_is_drawn_once_from_the_noise_of_the_round(shared: Shared) -> None:
    purposes: list[tuple[str | int, ...]] = []
    shared().contribute(Clipped(change(0)), 2, lambda *purpose: purposes.append(purpose) or key(1))
    assert purposes == [("noise", 0)]


@pytest.mark.parametrize("count", [0, COUNT - 1, COUNT + 1, SIZE])
def test_a_vector_of_another_length_is_refused(shared: Shared, count: int) -> None:
    with pytest.raises(ValueError, match="or of another model"):
        share(shared(), np.zeros(count), 1, key(1))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_becomes_noise_alone(shared: Shared, poison: float) -> None:
    mechanism, spoilt = shared(), change(0)
    spoilt[-1] = poison
    nothing = share(mechanism, np.zeros(COUNT), 1, key(8))
    assert np.array_equal(share(mechanism, spoilt, 1, key(8)), nothing)


@pytest.mark.parametrize("noise_multiplier", [0.5, 20.0])
def test_the_ring_holds_the_sum_though_a_lone_vector_may_wrap(shared: Shared, noise_multiplier: float) -> None:
    """Under masks that cancel the words add up to the exact sum, though one device's numbers may not fit."""
    mechanism = shared(noise_multiplier=noise_multiplier)
    sent = [share(mechanism, change(d, 0.1), 1, key(9, d)) for d in range(DEVICES)]
    sent[0][0] += 2**40
    sent[1][0] -= 2**40
    words = [mechanism.grid.ring.encode(vector) for vector in sent]
    for sign, word in zip([1, -1] * (DEVICES // 2), words, strict=True):
        add_masks(word, [Mask(bytes(32), sign)])
    found = mechanism.grid.ring.decode(np.sum(words, axis=0, dtype=np.uint64), SIZE)
    assert np.array_equal(found, np.sum(sent, axis=0))
