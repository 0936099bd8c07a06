"""A device's own noise: its size, its shape, its grid, and what it does not depend on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bract.privacy import Clipped, Keystream, Plan, mechanism_of
from bract.privacy.encoding.quantization import quantize
from bract.privacy.mechanisms import local
from bract.privacy.mechanisms.local import Local

Make = Callable[..., Plan]
COUNT = 20_000


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def sums(seed: int = 0, scale: float = 5.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=COUNT)


def local_of(plan: Plan) -> Local:
    mechanism = mechanism_of(plan)
    assert isinstance(mechanism, Local)
    return mechanism


def noised(vector: np.ndarray, mechanism: Local, keystream: Keystream) -> np.ndarray:
    """The noised sum in steps of the noise's grid."""
    noise = next(mechanism.noise(len(vector), 1, lambda *_: keystream))
    steps = mechanism.noised(Clipped(vector), noise) / mechanism.grid.noise_step
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    return np.rint(steps).astype(np.int64)


def steps(vector: np.ndarray, mechanism: Local) -> np.ndarray:
    """The sum in the same steps, without noise."""
    return quantize(vector, mechanism.grid.noise_step)


@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
def test_the_noise_has_the_plans_standard_deviation_and_no_mean(
    make: Make, noise_multiplier: float, clip_norm: float
) -> None:
    mechanism = local_of(make(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm}))
    noise = (noised(sums(), mechanism, key(1)) - steps(sums(), mechanism)) * mechanism.grid.noise_step
    std = mechanism.noise_std(COUNT)
    assert std > noise_multiplier * clip_norm
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(noise.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(noise.mean()) < 6 * std / math.sqrt(COUNT)


def test_the_noise_has_the_shape_of_a_gaussian(make: Make) -> None:
    mechanism = local_of(make())
    noise = noised(np.zeros(COUNT), mechanism, key(2)) * mechanism.grid.noise_step / mechanism.noise_std(COUNT)
    for bound in (0.5, 1.0, 2.0, 3.0):
        within = math.erf(bound / math.sqrt(2))
        error = math.sqrt(within * (1 - within) / COUNT)
        assert abs((np.abs(noise) < bound).mean() - within) < 6 * error  # false alarm 2e-9 a bound
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 6 / math.sqrt(COUNT)


def test_noise_is_on_a_grid_of_a_billionth_of_the_clip_norm(make: Make) -> None:
    """Whatever the ring is."""
    for bits in (None, 12, 64):
        mechanism = local_of(make(privacy={"clip_norm": 0.25}, aggregation={} if bits is None else {"bits": bits}))
        assert mechanism.grid.noise_step == 0.25 * 2.0**-30
        bare = mechanism.noised(Clipped(sums()), np.zeros(COUNT, dtype=np.int64))
        assert np.array_equal(bare, steps(sums(), mechanism) * mechanism.grid.noise_step)
        assert np.abs(bare - sums()).max() <= 0.25 * 2.0**-31


def test_the_noise_does_not_depend_on_the_sum(make: Make) -> None:
    mechanism = local_of(make())
    one, other = sums(0), sums(1, scale=1e-9)
    first, second = (noised(each, mechanism, key(3)) - steps(each, mechanism) for each in (one, other))
    assert np.array_equal(first, second)


def test_a_keystream_never_gives_the_noise_of_another_or_twice(make: Make) -> None:
    mechanism, keystream, zeros = local_of(make()), key(4), np.zeros(COUNT)
    draws = [noised(zeros, mechanism, each) for each in (keystream, keystream, key(5))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[one], draws[other])[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("block", [1, 3 * COUNT - 1, 1 << 20])
def test_each_step_has_noise_of_its_own_however_far_ahead(
    make: Make, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(local, "BLOCK", block)
    drawn = list(local_of(make()).noise(COUNT, 4, lambda *purpose: key(int(purpose[1]))))
    assert [noise.shape for noise in drawn] == [(COUNT,)] * 4
    for one in range(4):
        for other in range(one):
            assert abs(np.corrcoef(drawn[one], drawn[other])[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_becomes_noise_alone(make: Make, poison: float) -> None:
    mechanism, spoilt = local_of(make()), sums()
    spoilt[7] = poison
    zeros = noised(np.zeros(COUNT), mechanism, key(6))
    assert np.array_equal(noised(spoilt, mechanism, key(6)), zeros)
