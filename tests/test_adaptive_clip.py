"""A clip norm that follows the clients' changes (Andrew et al. 2021), from a device's bit to the next norm."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import (
    Keystream,
    Plan,
    PlanError,
    Release,
    Sum,
    Update,
    make_plan,
    mechanism_of,
    override,
    read_tables,
)
from bract.privacy.mechanisms.change_clip import INDICATOR, clip_change, next_scale
from bract.privacy.messages import LEAST_SCALE, Malformed, Offer, read_offer
from bract.server.training import NullObserver
from bract.simulations.run import simulate
from bract.simulations.study import make_study

COUNT, DEVICES = 300, 40
PLACES = ("local", "distributed", "central")


def plan_of(noise: str, **privacy: object) -> Plan:
    return make_plan(
        {
            "data": {"clients": DEVICES},
            "model": {"parameters": COUNT},
            "cohort": {"rounds": 1, "size": DEVICES},
            "privacy": {
                "unit": "client",
                "noise": noise,
                "epsilon": 1e9,
                "sampling_rate": 1.0,
                "noise_multiplier": 0.01,
                "clip_quantile": 0.5,
                "clip_norm": 0.5,
            }
            | privacy,
            "aggregation": {"protocol": "secagg", "colluders": 0.0, "dropouts": 0.0},
        },
        Plan,
    )


def key(*numbers: int) -> Keystream:
    return Keystream(bytes(numbers).ljust(32, b"\0"))


def vector(norm: float, seed: int = 0) -> Update:
    direction = np.random.default_rng(seed).normal(size=COUNT)
    return Update(norm * direction / np.linalg.norm(direction))


def sent(plan: Plan, update: Update, number: int) -> np.ndarray:
    clipped = clip_change(update, plan)
    return mechanism_of(plan).contribute(clipped, 1, lambda *purpose: key(number, 1)).vector


@given(norm=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_a_device_moves_the_sum_by_no_more_than_the_plan_says(norm: float, seed: int) -> None:
    plan = plan_of("central")
    clipped = clip_change(vector(norm, seed), plan).vector
    assert len(clipped) == COUNT + 1
    assert np.linalg.norm(clipped) <= mechanism_of(plan).exact_sensitivity
    within = norm <= plan.privacy.clip_norm * (1 - 1e-9)
    assert np.sign(clipped[-1]) == (1 if within else -1) or norm == pytest.approx(0.5)


@pytest.mark.parametrize("noise", PLACES)
def test_the_indicator_is_paid_for_in_sensitivity_and_noise(noise: str) -> None:
    adaptive, fixed = mechanism_of(plan_of(noise)), mechanism_of(plan_of(noise, clip_quantile=None))
    assert adaptive.exact_sensitivity == pytest.approx(0.5 * math.hypot(1, INDICATOR / 2))
    assert fixed.exact_sensitivity == 0.5
    assert adaptive.noise_std(COUNT + 1) > 1.005 * fixed.noise_std(COUNT)
    assert adaptive.coordinates(COUNT) >= COUNT + 1


@pytest.mark.parametrize("noise", PLACES)
@pytest.mark.parametrize("inside", [0, 10, 40])
def test_the_server_learns_the_share_within_the_clip_norm(noise: str, inside: int) -> None:
    plan = plan_of(noise)
    total = sum(sent(plan, vector(0.1 if number < inside else 3.0, number), number) for number in range(DEVICES))
    release = mechanism_of(plan).release(Sum(np.asarray(total)), 1, key(9))[0]
    assert release.inside is not None
    assert release.inside == pytest.approx(inside / DEVICES, abs=0.08)  # eight deviations of the noise at least
    assert release.vector.shape == (COUNT,)


@given(inside=st.floats(-3, 4), scale=st.floats(1e-3, 1e3))
def test_the_clip_norm_follows_how_many_are_within_it(inside: float, scale: float) -> None:
    """It grows where too few are within it, and shrinks where too many are."""
    plan = plan_of("central")
    after = next_scale(plan, scale, Release(np.zeros(1), inside))
    assert (after > scale) == (inside < 0.5)
    assert (after < scale) == (inside > 0.5)
    assert abs(math.log(after / scale)) <= 0.2 * 0.5 + 1e-9


def test_the_scale_stays_within_what_a_device_accepts() -> None:
    plan = plan_of("central")
    assert next_scale(plan, LEAST_SCALE, Release(np.zeros(1), 1.0)) == LEAST_SCALE
    assert next_scale(plan, 1 / LEAST_SCALE, Release(np.zeros(1), 0.0)) == 1 / LEAST_SCALE


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, 2.0**-21, 2.0**21, "1", 1, True])
def test_a_device_refuses_another_scale(scale: object) -> None:
    with pytest.raises(Malformed):
        read_offer({"round": 1, "plan": "", "scale": scale})


@given(scale=st.floats(LEAST_SCALE, 1 / LEAST_SCALE))
def test_an_offer_carries_the_scale_there_and_back(scale: float) -> None:
    assert read_offer(Offer(3, "plan", scale).to_fields()) == Offer(3, "plan", scale)


def test_a_plan_for_records_cannot_adapt_its_clip_norm() -> None:
    with pytest.raises(PlanError, match="clip_quantile is for unit = client"):
        make_plan({"privacy": {"clip_quantile": 0.5}}, Plan)


def adapting(tiny_plan: Path, *settings: str):
    client = ["privacy.unit=client", "privacy.sampling_rate=1.0", "privacy.noise=local", "privacy.clip_quantile=0.5"]
    noise = ["privacy.noise_multiplier=0.01", "privacy.epsilon=1e9", "privacy.clip_norm=0.01", "cohort.rounds=4"]
    return make_study(override(read_tables(tiny_plan), [*client, *noise, *settings]))


def norms(folder: Path) -> list[float]:
    return [json.loads(line)["clip_norm"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_training_starts_from_the_plans_clip_norm(tiny_plan: Path, tmp_path: Path) -> None:
    """It lets it grow."""
    simulate(adapting(tiny_plan), tmp_path / "run")
    found = norms(tmp_path / "run")
    assert found[0] == 0.01
    ratios = [after / before for before, after in pairwise(found)]
    assert ratios == pytest.approx([math.exp(0.1)] * 3, rel=0.02)  # nobody is within a norm as small as this


def test_a_resumed_training_goes_on_with_the_clip_norm_it_had(tiny_plan: Path, tmp_path: Path) -> None:
    class Cut(NullObserver):
        def finished_round(self, record) -> None:
            if record.round == 2:
                raise KeyboardInterrupt

    study = adapting(tiny_plan)
    with pytest.raises(KeyboardInterrupt):
        simulate(study, tmp_path / "cut", Cut())
    simulate(study, tmp_path / "cut")
    simulate(study, tmp_path / "whole")
    assert norms(tmp_path / "cut") == norms(tmp_path / "whole")


def test_a_fixed_clip_norm_is_not_written_down(tiny_plan: Path, tmp_path: Path) -> None:
    simulate(make_study(override(read_tables(tiny_plan), ["cohort.rounds=1"])), tmp_path / "run")
    assert norms(tmp_path / "run") == [None]
