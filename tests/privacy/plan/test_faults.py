"""Faults of a plan, reported together in two lines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, make_plan, mechanism_of, override

NOISE = {"noise_multiplier": 20.0}
"""Given, so that nothing is calibrated."""


def with_noise(tables: dict[str, Any]) -> dict[str, Any]:
    return {**tables, "privacy": {**NOISE, **tables.get("privacy", {})}}


def fault(tables: dict[str, Any]) -> str:
    """The first line of the error that these tables give, which has two."""
    with pytest.raises(PlanError) as caught:
        make_plan(with_noise(tables), Plan)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    return lines[0]


def test_an_unknown_key_is_named_with_the_nearest_known_one() -> None:
    assert "privacy.epsilom is not a key (did you mean privacy.epsilon?)" in fault({"privacy": {"epsilom": 1.0}})
    assert fault({"privacy": {"zzz": 1.0}}).endswith("privacy.zzz is not a key")


def test_an_unknown_table_is_named_with_the_nearest_known_one() -> None:
    assert "[privcy] is not a table (did you mean privacy?)" in fault({"privcy": {"epsilon": 1.0}})
    assert fault({"zzz": {}}).endswith("[zzz] is not a table")


def test_all_faults_are_reported_together_in_two_lines() -> None:
    says = fault(
        {
            "privcy": {},
            "privacy": {"epsilon": -1.0, "epsilom": 2.0, "delta": 0.5, "noise": "none"},
            "cohort": {"size": 20, "minimum": 30, "rounds": 0},
            "data": {"clients": 11, "shape": [1, 0, -1]},
            "server": {"optimizer": "adam", "momentum": 0.9},
            "training": {"local_steps": 5, "engine": "mine"},
        }
    )
    for part in (
        "[privcy]",
        "privacy.epsilon must be",
        "privacy.epsilom is not a key",
        "privacy.noise must be",
        "cohort.rounds must be",
        "data.shape.1 must be",
        "data.shape.2 must be",
        "training.engine must be",
        "server.momentum is for",
    ):
        assert says.count(part) == 1, part
    assert "has 9 faults: " in says


def test_faults_of_keys_and_of_rules_come_together() -> None:
    """Of single keys, and of rules between sound tables."""
    says = fault(
        {
            "cohort": {"size": 20, "minimum": 30},
            "privacy": {"delta": 0.5},
            "training": {"local_steps": 5, "engine": "opacus", "precision": "bfloat16"},
            "data": {"name": "files"},
            "server": {"averaging": 1.0},
        }
    )
    assert "has 7 faults: " in says
    assert "training.precision bfloat16 is not for engine = opacus" in says
    assert "cohort.size is 20, data.clients only 11" in says
    assert "cohort.minimum is 30, above cohort.size 20" in says
    assert "privacy.delta 0.5 is no guarantee" in says
    assert "training.local_steps is 5, but noise = central makes one step" in says
    assert "data.path is missing" in says
    assert "server.averaging must be" in says


@pytest.mark.parametrize("epsilon", [0, 0.0, -0.0, -1.0])
def test_an_epsilon_that_is_not_positive_is_refused(epsilon: float) -> None:
    assert "privacy.epsilon must be greater than 0" in fault({"privacy": {"epsilon": epsilon}})


@pytest.mark.parametrize("delta", [0.0100001, 0.1, 0.999])
def test_a_delta_above_one_percent_is_refused(delta: float) -> None:
    assert "must be at most 0.01" in fault({"privacy": {"delta": delta}})


def test_a_delta_of_one_percent_is_accepted() -> None:
    few = {"data": {"records": 99}, "privacy": {"delta": 0.01}}
    assert make_plan(with_noise(few), Plan).privacy.delta == 0.01


RECORD = {"unit": "record", "sampling_rate": 0.5}
CLIENT = {"unit": "client", "sampling_rate": 1.0}


@pytest.mark.parametrize(
    ("data", "privacy", "units"),
    [
        ({"records": 1000}, RECORD, 1000),
        ({}, RECORD, 700),  # 350 records a step, half of them in each
        ({"clients": 500}, CLIENT, 500),
        ({"clients": 500, "records": 10}, CLIENT, 500),
        ({"clients": 500, "records": 800}, RECORD, 800),
    ],
)
def test_a_delta_that_would_let_one_unit_be_published_is_refused(data: dict, privacy: dict, units: int) -> None:
    for delta in (1 / units, 1.01 / units):
        said = fault({"data": data, "privacy": privacy | {"delta": delta}})
        assert "is 1/n or more" in said
        assert f"n = {units:,} {privacy['unit']}s" in said
    below = with_noise({"data": data, "privacy": privacy | {"delta": 0.99 / units}})
    assert not make_plan(below, Plan).large_delta
    allowed = with_noise({"data": data, "privacy": privacy | {"delta": 1 / units, "allow_large_delta": True}})
    assert make_plan(allowed, Plan).large_delta


def test_keys_that_are_left_out_are_not_in_the_digest() -> None:
    """A large delta, and a number of records."""
    plain = make_plan(with_noise({}), Plan)
    assert not {"records", "allow_large_delta"} & {key for table in plain.public().values() for key in table}
    assert make_plan(with_noise({"privacy": {"allow_large_delta": False}}), Plan).digest == plain.digest
    assert make_plan(with_noise({"data": {"records": 5000}}), Plan).digest != plain.digest
    assert make_plan(with_noise({"privacy": {"allow_large_delta": True}}), Plan).digest != plain.digest


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, 2])
def test_a_delta_outside_zero_to_one_is_refused(delta: float) -> None:
    assert "privacy.delta must be" in fault({"privacy": {"delta": delta}})


NUMBERS = [
    ("privacy", "epsilon"),
    ("privacy", "delta"),
    ("privacy", "clip_norm"),
    ("privacy", "sampling_rate"),
    ("privacy", "noise_multiplier"),
    ("privacy", "clip_quantile"),
    ("privacy", "clip_rate"),
    ("privacy", "bands"),
    ("model", "parameters"),
    ("training", "learning_rate"),
    ("training", "batch_size"),
    ("training", "local_steps"),
    ("cohort", "rounds"),
    ("cohort", "size"),
    ("cohort", "deadline"),
    ("server", "learning_rate"),
    ("server", "momentum"),
    ("data", "clients"),
    ("data", "holdout"),
]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "4 percent", "", [1.0], {}], ids=str)
@pytest.mark.parametrize(("section", "key"), NUMBERS)
def test_a_number_that_is_not_finite_or_no_number_is_refused(section: str, key: str, value: Any) -> None:
    assert f"{section}.{key} must be" in fault({section: {key: value}})


@pytest.mark.parametrize(("section", "key"), NUMBERS)
def test_a_number_below_its_range_is_refused(section: str, key: str) -> None:
    assert f"{section}.{key} must be" in fault({section: {key: -1}})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("privacy", "unit", "clients"),
        ("privacy", "unit", "none"),
        ("privacy", "noise", "none"),
        ("privacy", "noise", "Local"),
        ("privacy", "noise", "shared"),
        ("privacy", "sampling_rate", 1.01),
        ("privacy", "sampling_rate", 0.0),
        ("privacy", "clip_norm", 0.0),
        ("privacy", "noise_multiplier", 0.0),
        ("training", "local_steps", 1.5),
        ("training", "engine", "torch"),
        ("training", "precision", "float16"),
        ("aggregation", "protocol", "plain"),
        ("cohort", "rounds", 0),
        ("data", "split", "random"),
        ("data", "split", "natural\n"),
        ("data", "shape", 28),
        ("data", "name", 7),
        ("data", "path", 7),
        ("server", "momentum", 1.0),
        ("model", "name", ["cnn"]),
        ("model", "parameters", 0),
        ("model", "parameters", 10**9 + 1),
        ("model", "parameters", 1.0),
    ],
)
def test_an_unknown_value_is_refused_and_shown(section: str, key: str, value: Any) -> None:
    says = fault({section: {key: value}})
    assert f"{section}.{key} must be" in says
    assert repr(value) in says


def test_a_value_with_line_breaks_is_shown_in_one_line() -> None:
    assert "'lo\\ncal'" in fault({"privacy": {"noise": "lo\ncal"}})


def test_central_noise_takes_one_local_step() -> None:
    """Several are refused; with local noise they are not."""
    assert "training.local_steps is 2" in fault({"training": {"local_steps": 2}, "privacy": {"noise": "central"}})
    local = with_noise({"training": {"local_steps": 2}, "privacy": {"noise": "local"}})
    assert make_plan(local, Plan).training.local_steps == 2


def test_a_cohort_is_at_most_all_clients() -> None:
    """A larger one is refused."""
    assert "cohort.size is 6, data.clients only 5" in fault({"cohort": {"size": 6}, "data": {"clients": 5}})
    assert make_plan(with_noise({"cohort": {"size": 5}, "data": {"clients": 5}}), Plan).cohort.size == 5


def test_a_minimum_above_the_cohort_is_refused() -> None:
    assert "cohort.minimum is 12, above cohort.size 11" in fault({"cohort": {"minimum": 12}})


def test_more_rounds_than_the_noise_pays_for_are_refused() -> None:
    """A given noise multiplier."""
    tables = {"privacy": {"noise_multiplier": 2.0, "epsilon": 5.0}}
    cost = mechanism_of(make_plan({**tables, "cohort": {"rounds": 20}}, Plan)).cost()
    assert cost <= 5.0
    says = fault({**tables, "cohort": {"rounds": 200}})
    assert "200 rounds at noise multiplier 2 cost epsilon" in says
    assert "the budget is 5" in says


def test_the_last_round_in_the_budget_is_accepted() -> None:
    """One more is not."""
    tables = {"privacy": {"noise_multiplier": 2.0}, "data": {"clients": 1}, "cohort": {"size": 1, "rounds": 20}}
    exactly = {
        **tables,
        "privacy": {"noise_multiplier": 2.0, "epsilon": mechanism_of(make_plan(tables, Plan)).cost()},
    }
    assert make_plan(exactly, Plan).cohort.rounds == 20
    assert "21 rounds" in fault({**exactly, "cohort": {"size": 1, "rounds": 21}})


def test_fewer_rounds_for_each_client_cost_less() -> None:
    """A cohort of a tenth: every client pays for a tenth of the rounds, and the same budget allows more of them."""
    tables = {"privacy": {"noise_multiplier": 2.0, "epsilon": 5.0}, "data": {"clients": 100}}
    assert "200 rounds" in fault({**tables, "cohort": {"rounds": 200, "size": 100}})
    assert make_plan({**tables, "cohort": {"rounds": 200, "size": 10}}, Plan).participations == 20


def test_no_tables_give_the_default_plan_resolved() -> None:
    assert make_plan({}, Plan) == Plan().with_noise_multiplier(mechanism_of(Plan()).noise_multiplier)


def test_the_plan_is_called_by_its_name() -> None:
    with pytest.raises(PlanError, match="my plan has a fault"):
        make_plan({"privacy": {"epsilon": -1.0}}, Plan, "my plan")


def test_overrides_reach_the_plan_and_are_checked_like_the_file() -> None:
    tables = override({"privacy": dict(NOISE)}, ["cohort.rounds=7", "data.name=files", "data.path=x.npz"])
    plan = make_plan(tables, Plan)
    assert (plan.cohort.rounds, plan.data.name, plan.data.path) == (7, "files", "x.npz")
    assert "cohort.rounds must be" in fault(override({}, ["cohort.rounds=many"]))
    assert "privacy.epsilom is not a key" in fault(override({}, ["privacy.epsilom=4"]))
    assert "privacy.epsilon.x is not a key" in fault(override({}, ["privacy.epsilon.x=4"]))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-3, 3),
    st.sampled_from(["", "x", "central", "distributed", "client", "secagg"]),
)
keys = st.sampled_from([*(k for _, m in Plan() for k in type(m).model_fields), "extra"])
tables = st.dictionaries(
    st.sampled_from([*Plan.model_fields, "other"]), st.dictionaries(keys, junk, max_size=4), max_size=4
)


@given(tables)
def test_any_tables_are_a_plan_in_its_budget_or_a_fault(given_tables: dict[str, Any]) -> None:
    """A fault has two lines."""
    privacy = {**given_tables.get("privacy", {}), "noise_multiplier": 2.0}
    found = plan_or_fault({**given_tables, "privacy": privacy})
    if isinstance(found, PlanError):
        assert len(str(found).splitlines()) == 2
    else:
        assert mechanism_of(found).cost() <= found.privacy.epsilon
        assert found.privacy.delta <= 0.01
        assert found.cohort.size <= found.data.clients


def plan_or_fault(tables: dict[str, Any]) -> Plan | PlanError:
    try:
        return make_plan(tables, Plan)
    except PlanError as error:
        return error
