"""A study is a plan, and the only kind that may protect nobody."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import pytest

from bract.models import count_parameters
from bract.privacy import (
    Plan,
    PlanError,
    SystemEntropy,
    Unbounded,
    accept_plan,
    make_plan,
    mechanism_of,
    parse_tables,
    read_tables,
)
from bract.simulations.seeded import SeededEntropy
from bract.simulations.study import accept_study, make_study, mechanism_for
from bract.simulations.unprotected import Unprotected

SHIPPED = sorted(Path(str(files("bract.simulations.experiments"))).glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_plan_is_also_a_deployment_s_plan(path: Path) -> None:
    study, plan = make_study(read_tables(path)), accept_plan(path.read_text(), count_parameters).plan
    assert study.digest == plan.digest
    assert 0.99 * plan.privacy.epsilon < mechanism_of(plan).cost() <= plan.privacy.epsilon


def test_what_is_offered_tells_nothing_of_the_simulation() -> None:
    study = make_study({"simulation": {"seed": 77}})
    assert "77" not in study.offered()
    assert "simulation" not in study.offered()
    assert accept_plan(study.offered()).plan.digest == study.digest
    assert accept_study(study.offered()).plan.digest == study.digest
    assert make_study(parse_tables(study.to_toml())) == study


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
def test_without_protection_every_figure_says_so(noise: str) -> None:
    study = make_study({"privacy": {"unit": "none", "noise": noise}, "aggregation": {"protocol": "secagg"}})
    assert not study.protected
    mechanism = mechanism_for(study)
    assert isinstance(mechanism, Unprotected)
    assert mechanism.round_event == mechanism.server_event == mechanism.event("released", 3) == Unbounded()
    assert mechanism.noise_multiplier == 0
    assert mechanism.cost() == mechanism.sensitivity(5) == math.inf
    assert mechanism.budget.epsilon is None


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
@pytest.mark.parametrize("clip_norm", [0.5, 1.0])
def test_without_protection_sums_are_as_wide_as_they_are_fine(noise: str, clip_norm: float) -> None:
    """Gradients are not clipped there, and no noise hides the rounding."""
    privacy = {"unit": "none", "noise": noise, "clip_norm": clip_norm}
    study = make_study({"privacy": privacy, "aggregation": {"protocol": "secagg"}})
    mechanism = mechanism_for(study)
    assert mechanism.grid.bound * mechanism.grid.step >= 2.0**16 * clip_norm * (1 - 1e-12)
    assert mechanism.grid.step <= 2.0**-25 * clip_norm
    assert mechanism.grid.bound * study.cohort.size < 2 ** (mechanism.grid.ring.bits - 1)
    assert mechanism.coordinates(51) == 51


SUMS = ("grid", "server_event", "noise_multiplier")
"""What sums are made by."""


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
@pytest.mark.parametrize(("unit", "rate"), [("record", 0.25), ("client", 1.0)])
def test_with_protection_a_study_adds_up_as_the_plan_does(noise: str, unit: str, rate: float) -> None:
    privacy = {"unit": unit, "noise": noise, "sampling_rate": rate, "noise_multiplier": 20.0}
    tables = {"privacy": privacy, "aggregation": {"protocol": "secagg"}}
    study, plan = make_study(tables), make_plan(tables, Plan, count=count_parameters)
    assert study.least_survivors == plan.least_survivors
    for name in SUMS:
        assert getattr(mechanism_for(study), name) == getattr(mechanism_of(plan), name)


def test_a_simulation_may_leave_the_masks_out_and_nothing_else() -> None:
    """Noise, grid, floor and charge are those of the plan, whose digest stays as it is."""
    tables = {"privacy": {"noise": "distributed"}, "aggregation": {"protocol": "secagg"}}
    masked, clear = (make_study(tables | {"simulation": {"masks": masks}}) for masks in (True, False))
    assert (masked.secure, clear.secure) == (True, False)
    assert (masked.digest, masked.least_survivors) == (clear.digest, clear.least_survivors)
    for name in SUMS:
        assert getattr(mechanism_for(masked), name) == getattr(mechanism_for(clear), name)
    assert accept_plan(clear.offered()).plan.secure
    assert accept_study(clear.offered()).plan.secure
    assert not accept_study(clear.offered(), masks=False).plan.secure


def test_masks_that_a_plan_has_none_of_cannot_be_left_in() -> None:
    assert not make_study({"simulation": {"masks": True}}).secure
    with pytest.raises(PlanError, match=r"needs aggregation\.protocol = secagg"):
        make_study({"privacy": {"noise": "distributed"}, "simulation": {"masks": False}})


def test_noise_that_comes_off_with_the_masks_needs_them() -> None:
    tables = {"privacy": {"noise": "distributed", "shares": "xnoise"}, "aggregation": {"protocol": "secagg"}}
    assert make_study(tables).secure
    with pytest.raises(PlanError, match=r"simulation\.masks = false leaves out"):
        make_study(tables | {"simulation": {"masks": False}})


def test_a_deployment_cannot_be_told_to_protect_nobody() -> None:
    study = make_study({"privacy": {"unit": "none"}})
    with pytest.raises(PlanError, match=r"privacy\.unit"):
        accept_plan(study.offered())
    with pytest.raises(PlanError, match=r"privacy\.unit"):
        make_plan({"privacy": {"unit": "none"}}, Plan)
    with pytest.raises(PlanError, match="simulation"):
        make_plan({"simulation": {"seed": 1}}, Plan)


def test_a_seed_is_the_only_way_to_repeatable_randomness() -> None:
    assert isinstance(make_study({}).entropy, SystemEntropy)
    entropy = make_study({"simulation": {"seed": 3}}).entropy
    assert isinstance(entropy, SeededEntropy)
    assert entropy.keystream("noise", 1).bytes(16) == SeededEntropy(3).keystream("noise", 1).bytes(16)


def test_seeds_and_purposes_give_unlike_keystreams() -> None:
    purposes = [
        (seed, *purpose) for seed in (0, 1, 11) for purpose in [("a",), ("a", 1), ("a", 11), ("a1",), ("b", 1)]
    ]
    drawn = {SeededEntropy(seed).keystream(*purpose).bytes(16) for seed, *purpose in purposes}
    assert len(drawn) == len(purposes)


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match="resnet"):
        make_study({"model": {"name": "resnet"}})
