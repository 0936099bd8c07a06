"""Rules over several keys of a plan: which cells there are, and what each of them takes."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, accept_plan, make_plan
from bract.privacy.plan.thresholds import COMPLETE

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
    records = tables("record", noise, privacy={"sampling_rate": rate}, data={"records": 1000})
    assert make_plan(records, Plan).privacy.sampling_rate == rate


def test_clients_as_units_have_to_say_they_are_not_sampled() -> None:
    """The rate that is the default is one of records."""
    made = tables("client", "central")
    del made["privacy"]["sampling_rate"]
    assert "privacy.sampling_rate is 0.25, unit = client takes 1" in faults(made)[0]


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_only_changes_and_noised_steps_may_be_many_steps(unit: str, noise: str) -> None:
    """One noised sum of records is one step; a change, or noised steps, may be many."""
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
def test_accepted_shared_noise_has_an_honest_share(
    size: int, colluders: float, dropouts: float, minimum: int
) -> None:
    """It needs more than half of devices and colluders together, and fewer than half collude."""
    cohort = {"size": size, "minimum": min(minimum, size), "rounds": 1}
    aggregation = {"colluders": colluders, "dropouts": dropouts}
    made = tables("client", "distributed", data={"clients": size}, cohort=cohort, aggregation=aggregation)
    found = plan_or_fault(made)
    if isinstance(found, PlanError):
        assert ("leave no safe graph" in found.what and size > COMPLETE) or " in a sum, " in found.what
    else:
        assert found.least_survivors - found.colluders >= 1
        assert 2 * found.least_survivors > size > 2 * found.colluders


def plan_or_fault(given_tables: dict[str, Any]) -> Plan | PlanError:
    try:
        return make_plan(given_tables, Plan)
    except PlanError as fault:
        return fault


@pytest.mark.parametrize(
    ("size", "colluders", "dropouts", "says", "typed"),
    [
        (
            10,
            1 / 3,
            0.4,
            "10 devices that withstand 3 colluders need 7 in a sum, aggregation.dropouts 0.4 may leave 6",
            0.3,
        ),
        (
            10,
            0.49,
            0.3,
            "10 devices that withstand 4 colluders need 8 in a sum, aggregation.dropouts 0.3 may leave 7",
            0.2,
        ),
        (
            7,
            1 / 3,
            0.45,
            "7 devices that withstand 2 colluders need 5 in a sum, aggregation.dropouts 0.45 may leave 4",
            0.286,
        ),
        (
            2000,
            0.4,
            0.31,
            "2000 devices that withstand 799 colluders need 1400 in a sum, aggregation.dropouts 0.31 may leave 1380",
            0.3,
        ),
    ],
)
@pytest.mark.parametrize("noise", ["local", "central", "distributed"])
def test_a_sum_that_could_not_open_is_refused(
    size: int, colluders: float, dropouts: float, says: str, typed: float, noise: str
) -> None:
    """If as many drop out as may."""
    tall = {"data": {"clients": size}, "cohort": {"size": size, "minimum": 1, "rounds": 1}}
    shares = {"protocol": "secagg", "colluders": colluders, "dropouts": dropouts}
    found = [fault for fault in faults(tables("client", noise, aggregation=shares, **tall)) if " in a sum, " in fault]
    assert found == [f"{says}: lower it to {typed:g}, or lower aggregation.colluders"]
    mended = plan_or_fault(tables("client", noise, aggregation=shares | {"dropouts": typed}, **tall))
    assert isinstance(mended, Plan) or " in a sum, " not in mended.what


def test_plans_without_masks_have_no_threshold() -> None:
    shares = {"protocol": "sum", "colluders": 0.4, "dropouts": 0.45}
    assert make_plan(tables("client", "central", aggregation=shares), Plan).least_survivors == 1


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


def test_faults_of_shared_noise_come_with_those_of_keys() -> None:
    """Faults of records under shared noise are told together with those of single keys."""
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


@pytest.mark.parametrize("key", ["server.learning_rate", "training.learning_rate"])
def test_a_rate_that_torch_cannot_multiply_by_is_refused(key: str) -> None:
    """float32 ends at 3.4e38: torch raises at a step by more, after the round is paid for."""
    table, name = key.split(".")
    with pytest.raises(PlanError, match=f"{key} must be less than or equal to 1000000, not 1e\\+39"):
        make_plan({table: {name: 1e39}}, Plan)
    assert accept_plan(f"[{table}]\n{name} = 1e6\n[privacy]\nnoise_multiplier = 20.0\n")


@pytest.mark.parametrize("noise", ["central", "distributed"])
@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("optimizer", "adam", "set server.optimizer"),
        ("momentum", 0.5, "set server.momentum"),
        ("weight_decay", 0.1, "set server.weight_decay"),
        ("proximal", 0.1, "leave it out"),
    ],
)
def test_a_device_without_steps_has_no_rule_of_steps(noise: str, key: str, value: object, instead: str) -> None:
    [said] = faults(tables("record", noise, training={key: value}))
    assert said.startswith(f"training.{key} is for devices with steps of their own: {instead}")
    assert make_plan(tables("client", noise, training={key: value}), Plan)


@pytest.mark.parametrize(
    ("unit", "noise", "changes", "says"),
    [
        ("record", "local", {"training": {"optimizer": "adam"}}, "is for unit = client"),
        ("client", "local", {"training": {"optimizer": "adam", "momentum": 0.5}}, "training.momentum is for"),
        ("record", "central", {"server": {"warmup": 61}}, "server.warmup is 61, but there are"),
    ],
)
def test_rules_of_steps_that_do_not_fit_are_refused(
    unit: str, noise: str, changes: dict[str, Any], says: str
) -> None:
    assert any(says in fault for fault in faults(tables(unit, noise, **changes)))
