"""The steps of dropouts for which layers of noise are sized."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Keystream
from bract.privacy.mechanisms.dropout_noise import SEED_BYTES, layer_noise, split_seeds, steps_of_dropouts
from bract.privacy.noise.skellam import skellam

cohorts = st.integers(1, 5000).flatmap(lambda honest: st.tuples(st.just(honest), st.integers(0, honest - 1)))


@given(cohorts)
def test_steps_rise_from_no_dropouts_to_the_most(cohort: tuple[int, int]) -> None:
    """Or there is one, which is hardly too much for no dropouts either."""
    honest, most = cohort
    steps = steps_of_dropouts(honest, most)
    assert steps[-1] == most
    assert all(one < next_ for one, next_ in pairwise(steps))
    assert steps[0] == 0 or (len(steps) == 1 and 10 * honest <= 11 * (honest - most))


@given(cohorts)
def test_noise_is_enough_and_hardly_more(cohort: tuple[int, int]) -> None:
    """Of `honest` devices `honest - d` bring noise where d drop out; each brings 1 / (honest - step)."""
    honest, most = cohort
    steps = steps_of_dropouts(honest, most)
    for before, step in pairwise(steps):
        for dropouts in {before + 1, step}:
            assert honest - dropouts >= honest - step
            assert step == before + 1 or 10 * (honest - dropouts) <= 11 * (honest - step)


@given(cohorts)
def test_there_are_few_steps(cohort: tuple[int, int]) -> None:
    """Each but the last brings the number of devices that it is enough for down by a tenth, or by one."""
    honest, most = cohort
    left = [honest - step for step in steps_of_dropouts(honest, most)]
    for one, _, third in zip(left, left[1:], left[2:], strict=False):
        assert third <= one / 1.1 or third == one - 2


def test_layers_are_skellam_noise_of_their_own_seeds() -> None:
    seeds = [bytes([number]) * SEED_BYTES for number in range(3)]
    variances = (0.5, 30.0, 1000.0)
    parts = [skellam(v, 1000, Keystream(seed)) for v, seed in zip(variances, seeds, strict=True)]
    assert np.array_equal(layer_noise(variances, seeds, 1000), sum(parts))
    assert np.array_equal(layer_noise(variances[1:], split_seeds(b"".join(seeds))[1:], 1000), parts[1] + parts[2])
    assert not layer_noise((), (), 5).any()


def test_as_many_seeds_are_needed_as_there_are_layers() -> None:
    with pytest.raises(ValueError, match="zip"):
        layer_noise((1.0, 2.0), [bytes(SEED_BYTES)], 4)
