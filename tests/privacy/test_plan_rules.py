"""Rules over several keys of a plan: which cells there are, and what each of them takes."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, make_plan
from bract.privacy.plan_rules import RULES
from bract.privacy.secagg.graph import COMPLETE
from bract.privacy.sections import Aggregation

SECURE = {"protocol": "secagg"}
CELLS = list(product(("record", "client"), ("local", "distributed", "central")))


def tables(unit: str, noise: str, **changes: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, dict[str, Any]] = {
        "model": {"parameters": 1000},
        "privacy": {"unit": unit, "noise": noise, "noise_multiplier": 60.0},
        "aggregation": dict(SECURE),
    }
    if unit == "client":
        made["privacy"]["sampling_rate"] = 1.0
    for table, keys in changes.items():
        made[table] = made.get(table, {}) | keys
    return made


def faults(given_tables: dict[str, Any]) -> list[str]:
    """The single faults of the one error that these tables give."""
    with pytest.raises(PlanError) as caught:
        make_plan(given_tables, Plan)
    assert len(str(caught.value).splitlines()) == 2
    head, _, rest = caught.value.what.partition(": ")
    found = rest.split("; ")
    assert head == ("the plan has a fault" if len(found) == 1 else f"the plan has {len(found)} faults")
    return found


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_every_cell_is_a_plan_under_masks(unit: str, noise: str) -> None:
    assert make_plan(tables(unit, noise), Plan).cell == (unit, noise)


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_only_shared_noise_needs_masks(unit: str, noise: str) -> None:
    bare = tables(unit, noise, aggregation={"protocol": "sum"})
    if noise == "distributed":
        [found] = faults(bare)
        assert "noise = distributed shares the noise inside a secure sum" in found
        assert "it needs aggregation.protocol = secagg" in found
    else:
        assert not make_plan(bare, Plan).secure


@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
@pytest.mark.parametrize("rate", [0.999, 0.25, 1e-6])
def test_clients_as_units_are_not_sampled(noise: str, rate: float) -> None:
    [found] = faults(tables("client", noise, privacy={"sampling_rate": rate}))
    assert found == f"privacy.sampling_rate is {rate:g}, unit = client takes 1: cohorts are dealt, not sampled"
    assert make_plan(tables("record", noise, privacy={"sampling_rate": rate}), Plan).privacy.sampling_rate == rate


def test_a_plan_with_clients_as_units_has_to_say_that_they_are_not_sampled() -> None:
    """The rate that is the default is one of records."""
    made = tables("client", "central")
    del made["privacy"]["sampling_rate"]
    assert "privacy.sampling_rate is 0.25, unit = client takes 1" in faults(made)[0]


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_one_noised_sum_of_records_is_one_step_and_a_change_or_noised_steps_may_be_many(
    unit: str, noise: str
) -> None:
    several = tables(unit, noise, training={"local_steps": 2})
    if unit == "record" and noise != "local":
        assert faults(several) == [f"training.local_steps is 2, but noise = {noise} makes one step a round"]
    else:
        assert make_plan(several, Plan).training.local_steps == 2


@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
def test_only_the_clip_of_clients_adapts(noise: str) -> None:
    changes = {"privacy": {"clip_quantile": 0.5}}
    assert make_plan(tables("client", noise, **changes), Plan).adaptive
    assert faults(tables("record", noise, **changes)) == ["privacy.clip_quantile is for unit = client"]


@given(st.integers(2, 300), st.floats(0, 0.499), st.floats(0, 0.499), st.integers(1, 300))
def test_a_plan_with_shared_noise_that_is_accepted_has_an_honest_share(
    size: int, colluders: float, dropouts: float, minimum: int
) -> None:
    """Fewer than half drop out and fewer than half collude, so it follows from the ranges of the two keys alone."""
    cohort = {"size": size, "minimum": min(minimum, size), "rounds": 1}
    aggregation = {"colluders": colluders, "dropouts": dropouts}
    made = tables("client", "distributed", data={"clients": size}, cohort=cohort, aggregation=aggregation)
    found = plan_or_fault(made)
    if isinstance(found, PlanError):
        assert size > COMPLETE
        assert "leave no safe graph" in found.what
    else:
        assert found.least_survivors - found.colluders >= 1
        assert 2 * found.least_survivors > size > 2 * found.colluders


def plan_or_fault(given_tables: dict[str, Any]) -> Plan | PlanError:
    try:
        return make_plan(given_tables, Plan)
    except PlanError as fault:
        return fault


def test_a_cohort_that_might_hold_no_honest_device_is_refused_were_its_keys_to_allow_it() -> None:
    """Shares of a half or more are no values of these keys; the rule stands behind their ranges."""
    sections = {name: getattr(Plan(), name) for name in Plan.model_fields}
    sections["privacy"] = sections["privacy"].model_copy(update={"noise": "distributed"})
    sections["cohort"] = sections["cohort"].model_copy(update={"size": 10})

    def found(colluders: float, dropouts: float) -> list[str]:
        loose = Aggregation.model_construct(protocol="secagg", colluders=colluders, dropouts=dropouts)
        return [fault for rule in RULES if (fault := rule(sections | {"aggregation": loose}))]

    assert found(0.6, 0.4) == []
    [says] = found(0.7, 0.4)
    assert says == "aggregation.dropouts 0.4 and colluders 0.7 may leave no honest device of 10 to bring the noise"


def test_faults_of_all_rules_are_told_together() -> None:
    made = tables(
        "client",
        "distributed",
        aggregation={"protocol": "sum"},
        privacy={"sampling_rate": 0.5, "delta": 0.5},
        cohort={"size": 20, "minimum": 30},
        data={"clients": 10, "name": "files"},
        server={"optimizer": "adam", "momentum": 0.5},
    )
    found = faults(made)
    for part in (
        "cohort.size is 20, data.clients only 10",
        "cohort.minimum is 30, above cohort.size 20",
        "privacy.sampling_rate is 0.5",
        "it needs aggregation.protocol = secagg",
        "server.momentum is for optimizer = sgd",
        "data.path is missing",
        "privacy.delta 0.5 is no guarantee",
    ):
        assert sum(part in fault for fault in found) == 1, part
    assert len(found) == 7


def test_faults_of_records_under_shared_noise_are_told_together_with_those_of_single_keys() -> None:
    made = tables(
        "record",
        "distributed",
        aggregation={"protocol": "sum"},
        privacy={"clip_quantile": 0.5, "bands": 2},
        training={"local_steps": 3},
        model={"parameters": 0},
    )
    found = faults(made)
    for part in (
        "model.parameters must be",
        "training.local_steps is 3, but noise = distributed makes one step a round",
        "privacy.clip_quantile is for unit = client",
        "privacy.bands is for unit = client with noise = central",
        "it needs aggregation.protocol = secagg",
    ):
        assert sum(part in fault for fault in found) == 1, part
