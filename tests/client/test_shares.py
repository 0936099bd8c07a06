"""A device's share of noise that all bring together: what is in it, for whom it is sized, and what it hides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bract.client import protect
from bract.client.protect import add_share, mask
from bract.privacy import Clipped, Keystream, Plan, Update
from bract.privacy.encoding.quantization import round_randomly
from bract.privacy.encoding.rotation import padded, rotate
from bract.privacy.noise.skellam import skellam
from bract.privacy.secagg.masks import Mask

Make = Callable[..., Plan]
COUNT, DEVICES, ROUNDS = 4000, 6, 12
SIZE = padded(COUNT)


@pytest.fixture
def shared(make: Make) -> Make:
    """A function: a plan of six devices that share the noise."""

    def plan(**privacy: Any) -> Plan:
        return make(
            data={"clients": DEVICES},
            model={"parameters": COUNT},
            cohort={"size": DEVICES},
            privacy={"noise": "distributed", "epsilon": 1e9, **privacy},
            aggregation={"protocol": "secagg"},
        )

    return plan


def key(*numbers: int) -> Keystream:
    return Keystream(bytes([*numbers, *[0] * (32 - len(numbers))]))


def change(device: int, scale: float = 0.01) -> Update:
    return Update(scale * np.random.default_rng(device).normal(size=COUNT))


def noise_of_sums(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """What the sums of some rounds are off, in steps, and the chance of each rounding up: devices first."""
    errors, ups = [], []
    for number in range(1, ROUNDS + 1):
        total = sum(add_share(change(d), plan, number, key(number, d)).vector for d in range(DEVICES))
        true = [rotate(change(d).vector, plan.rotation(number)) / plan.grid_step for d in range(DEVICES)]
        errors.append(total - np.sum(true, axis=0))
        ups.append(np.array(true) % 1)
    return np.concatenate(errors), np.concatenate(ups, axis=1)


@pytest.mark.parametrize("noise_multiplier", [0.03, 1.0, 20.0])
def test_the_noise_of_a_sum_has_the_moments_of_all_shares_and_roundings(
    shared: Make, noise_multiplier: float
) -> None:
    """Cumulants add: of a Skellam share all even ones are its variance; of a rounding they are a coin's."""
    plan = shared(noise_multiplier=noise_multiplier)
    errors, ups = noise_of_sums(plan)
    coins = ups * (1 - ups)
    variance = DEVICES * plan.place.share_variance + coins.sum(axis=0).mean()
    fourth = DEVICES * plan.place.share_variance + (coins * (1 - 6 * coins)).sum(axis=0).mean()
    count, std = len(errors), math.sqrt(variance)
    kurtosis = 3 + fourth / variance**2
    # six standard errors each: a false alarm in 2e-9 of seeds a figure, and the seeds are fixed
    assert abs(errors.mean()) < 6 * std / math.sqrt(count)
    assert abs(errors.var() / variance - 1) < 6 * math.sqrt((kurtosis - 1) / count)
    assert abs((errors**4).mean() / variance**2 - kurtosis) < 6 * math.sqrt(24 / count) * (kurtosis / 3) ** 2
    assert abs((errors**3).mean() / std**3) < 6 * math.sqrt(6 / count) * (kurtosis / 3) ** 2
    assert plan.place.share_variance * plan.grid_step**2 * plan.place.noise_shares == pytest.approx(
        plan.noise_std(COUNT) ** 2
    )


def test_a_share_is_the_rounded_vector_and_a_skellam_draw_and_nothing_else(shared: Make) -> None:
    plan, draws = shared(), key(1)
    expected = round_randomly(rotate(change(0).vector, plan.rotation(3)), plan.grid_step, draws)
    expected = expected + skellam(plan.place.share_variance, SIZE, draws)
    found = add_share(change(0), plan, 3, key(1))
    assert isinstance(found, Clipped)
    assert found.vector.dtype == np.int64
    assert np.array_equal(found.vector, expected)
    assert repr(found) == f"Clipped(shape=({SIZE},), dtype=int64)"


def test_after_the_rounding_there_are_whole_numbers_alone(shared: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rounded is added to bit for bit, as large as it may be."""
    rounded = np.random.default_rng(0).integers(-(2**60), 2**60, SIZE) | 1
    noise = np.random.default_rng(1).integers(-(2**60), 2**60, SIZE)
    monkeypatch.setattr(protect, "round_randomly", lambda *_: rounded)
    monkeypatch.setattr(protect, "skellam", lambda *_: noise)
    assert np.array_equal(add_share(change(0), shared(), 1, key(1)).vector, rounded + noise)


def test_the_noise_does_not_depend_on_the_vector(shared: Make) -> None:
    plan = shared()
    zeros = add_share(Update(np.zeros(COUNT)), plan, 1, key(2)).vector
    for scale in (1e-9, 1.0):
        rounded = round_randomly(rotate(change(0, scale).vector, plan.rotation(1)), plan.grid_step, key(2))
        assert np.array_equal(add_share(change(0, scale), plan, 1, key(2)).vector - rounded, zeros)


def test_shares_of_two_devices_two_rounds_or_two_draws_have_nothing_in_common(shared: Make) -> None:
    plan, nothing, draws = shared(), Update(np.zeros(COUNT)), key(3)
    found = [add_share(nothing, plan, 1, keystream).vector for keystream in (draws, draws, key(4), key(5))]
    for one in range(len(found)):
        for other in range(one):
            assert abs(np.corrcoef(found[one], found[other])[0, 1]) < 6 / math.sqrt(SIZE)  # false alarm 2e-9


def test_each_round_turns_the_vector_another_way_and_all_devices_alike(shared: Make) -> None:
    plan = shared(noise_multiplier=0.03)
    turned = [add_share(change(0, 1.0), plan, number, key(6)).vector for number in (1, 1, 2)]
    assert np.array_equal(turned[0], turned[1])
    assert abs(np.corrcoef(turned[0], turned[2])[0, 1]) < 6 / math.sqrt(SIZE)  # false alarm 2e-9
    other = add_share(change(0, 1.0), plan, 1, key(7)).vector
    assert np.corrcoef(turned[0], other)[0, 1] > 0.99


def test_a_plan_whose_noise_is_not_shared_has_no_shares(make: Make) -> None:
    for noise in ("local", "central"):
        plan = make(privacy={"noise": noise}, model={"parameters": COUNT})
        with pytest.raises(ValueError, match="shares of noise that the plan has none of"):
            add_share(change(0), plan, 1, key(1))


@pytest.mark.parametrize("count", [0, COUNT - 1, COUNT + 1, SIZE])
def test_a_vector_of_another_length_than_the_noise_is_sized_for_is_refused(shared: Make, count: int) -> None:
    with pytest.raises(ValueError, match="or for another model"):
        add_share(Update(np.zeros(count)), shared(), 1, key(1))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_becomes_noise_alone(shared: Make, poison: float) -> None:
    plan, spoilt = shared(), change(0).vector
    spoilt[-1] = poison
    nothing = add_share(Update(np.zeros(COUNT)), plan, 1, key(8)).vector
    assert np.array_equal(add_share(Update(spoilt), plan, 1, key(8)).vector, nothing)


@pytest.mark.parametrize("noise_multiplier", [0.5, 20.0])
def test_the_plans_ring_holds_the_sum_of_all_shares_and_a_lone_vector_may_wrap_in_it(
    shared: Make, noise_multiplier: float
) -> None:
    """Under masks that cancel the words add up to the exact sum, though one device's numbers may not fit."""
    plan = shared(noise_multiplier=noise_multiplier)
    sent = [add_share(change(d, 0.1), plan, 1, key(9, d)) for d in range(DEVICES)]
    sent[0].vector[0] += 2**40
    sent[1].vector[0] -= 2**40
    signs = [1, -1] * (DEVICES // 2)
    words = [mask(c, plan, [Mask(bytes(32), sign)]).vector for c, sign in zip(sent, signs, strict=True)]
    found = plan.ring.decode(np.sum(words, axis=0, dtype=np.uint64), SIZE)
    assert np.array_equal(found, np.sum([c.vector for c in sent], axis=0))
