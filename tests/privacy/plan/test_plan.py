"""A plan and its digest."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from bract.privacy import (
    Composed,
    Gaussian,
    Plan,
    PlanError,
    PoissonSampled,
    Unbounded,
    accept_plan,
    make_plan,
    mechanism_of,
    parse_tables,
)
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.plan.plan import Aggregation, Cohort, Data, Model, Privacy, Server, Training
from bract.privacy.plan.schema import Column

text = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=12)
counts = st.integers(1, 10**7)
positives = st.floats(0, exclude_min=True, allow_infinity=False)
seconds = st.floats(0, 1e8, exclude_min=True)
rates = st.floats(0, 1e6, exclude_min=True)
shares = st.floats(0, 1, exclude_max=True).map(abs)

plans = st.builds(
    Plan,
    data=st.builds(
        Data,
        name=text,
        path=st.none() | text,
        split=st.sampled_from(["natural", "iid", "dirichlet:0.3", "pathological:2"]),
        clients=counts,
        holdout=st.floats(0, 1, exclude_min=True, exclude_max=True),
        seed=st.integers(0, 2**63 - 1),
        shape=st.lists(counts, max_size=4).map(tuple),
        classes=counts,
    ),
    model=st.builds(Model, name=text, parameters=st.none() | st.integers(1, 10**9)),
    training=st.builds(Training, local_steps=counts, batch_size=counts, learning_rate=rates),
    cohort=st.builds(Cohort, rounds=counts, size=counts, minimum=counts, deadline=seconds),
    privacy=st.builds(
        Privacy,
        unit=st.sampled_from(["record", "client"]),
        noise=st.sampled_from(["local", "distributed", "central"]),
        epsilon=positives,
        delta=st.floats(1e-12, 1, exclude_max=True),
        clip_norm=st.floats(1e-6, 1e6),
        sampling_rate=st.floats(0, 1, exclude_min=True),
        noise_multiplier=st.floats(1e-6, 1e4),
        clip_quantile=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
        clip_rate=st.floats(0, 1, exclude_min=True),
        bands=st.none() | st.integers(1, 64),
    ),
    aggregation=st.builds(
        Aggregation,
        protocol=st.sampled_from(["sum", "secagg"]),
        mode=st.sampled_from(["semi-honest", "malicious-server"]),
        key_exchange=st.sampled_from(["x25519", "hybrid"]),
        colluders=st.floats(0, 0.5, exclude_max=True).map(abs),
        dropouts=st.floats(0, 0.5, exclude_max=True).map(abs),
        deadline=seconds,
        bits=st.none() | st.sampled_from([12, 16, 21, 32, 64]),
        range=st.none() | st.floats(1e-12, 1e12),
    ),
    server=st.builds(
        Server,
        optimizer=st.sampled_from(["sgd", "adam"]),
        learning_rate=rates,
        momentum=shares,
        averaging=shares,
        evaluate_every=counts,
    ),
).filter(lambda plan: plan.bands <= plan.cohort.rounds)  # what plan_rules would refuse has no weights


def changed(plan: Plan, section: str, **values: Any) -> Plan:
    """A plan with some values of a section changed, unchecked."""
    return plan.model_copy(update={section: getattr(plan, section).model_copy(update=values)})


def another(value: Any) -> Any:
    """A value of the same kind that is not the given one."""
    match value:
        case None:
            return 1
        case str():
            return value + "x"
        case int():
            return value + 1
        case float():
            return value / 2 if value else 0.5
        case tuple():
            return (*value, 1)
    raise TypeError(value)


FIELDS = [(section, key) for section, model in Plan() for key in type(model).model_fields]


# Text and digest


@given(plans)
def test_toml_reads_back_equal(plan: Plan) -> None:
    assert Plan.model_validate(parse_tables(plan.to_toml())) == plan
    assert Plan.model_validate(parse_tables(plan.offered())).digest == plan.digest


@given(plans, st.randoms())
def test_digest_does_not_depend_on_the_order_of_tables_and_keys(plan: Plan, random: Any) -> None:
    tables = parse_tables(plan.to_toml())
    shuffled = {
        name: dict(random.sample(list(table.items()), len(table)))
        for name, table in random.sample(list(tables.items()), len(tables))
    }
    assert Plan.model_validate(shuffled).digest == plan.digest


def test_digest_is_sha_256_of_the_public_plan() -> None:
    plain = Plan().model_dump(mode="json", exclude_none=True, exclude={"study"})
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert Plan().digest == hashlib.sha256(text.encode()).hexdigest()


def test_equal_plans_have_equal_digests_whatever_was_computed() -> None:
    """Figures may have been computed from either."""
    used, fresh = Plan(), Plan()
    assert mechanism_of(used).noise_multiplier > 0
    assert used == fresh
    assert used.digest == fresh.digest


def test_a_changed_copy_keeps_nothing_computed_before() -> None:
    """From the old tables."""
    plan = Plan(privacy=Privacy(noise="local", noise_multiplier=3.0))
    assert mechanism_of(plan).noise_multiplier * mechanism_of(plan).grid.step * mechanism_of(plan).grid.range > 0
    other = changed(plan, "privacy", noise="central", noise_multiplier=4.0)
    fresh = Plan(privacy=Privacy(noise="central", noise_multiplier=4.0))
    assert type(mechanism_of(other)) is type(mechanism_of(fresh))
    assert (mechanism_of(other).noise_multiplier, mechanism_of(other).grid.step, mechanism_of(other).grid.range) == (
        4.0,
        mechanism_of(fresh).grid.step,
        mechanism_of(fresh).grid.range,
    )
    assert mechanism_of(other).plan is other


WORDS = dict.fromkeys(("label", "client", "part", "test", "tokens", "holdout_unit"), "client")
LISTS = dict.fromkeys(("features", "ignore", "labels", "vocabulary", "fresh", "frozen"), ("a", "b"))
TYPED = (
    {"id": "a" * 32, "weights_digest": "a" * 64, "columns": {"a": Column(fill=1.0)}}
    | LISTS
    | WORDS
    | {"tokens": "words"}
)
"""Values for keys that are absent by default and hold no number."""


@pytest.mark.parametrize(("section", "key"), [field for field in FIELDS if field != ("model", "weights")])
def test_every_field_changes_the_digest_and_the_offer(section: str, key: str) -> None:
    """What devices are offered."""
    plan = Plan(data=Data(path="records.npz"))
    value = TYPED[key] if key in TYPED else another(getattr(getattr(plan, section), key))
    other = changed(plan, section, **{key: value})
    assert other.digest != plan.digest
    assert other.offered() != plan.offered()


def test_the_path_of_the_weights_is_not_offered() -> None:
    """Their digest is the public fact."""
    plan = changed(Plan(), "model", weights="a.safetensors", weights_digest="a" * 64)
    other = changed(Plan(), "model", weights="b.safetensors", weights_digest="a" * 64)
    assert other.digest == plan.digest
    assert other.offered() == plan.offered()


def test_fields_are_found_for_every_section() -> None:
    assert {section for section, _ in FIELDS} == set(Plan.model_fields)
    assert ("privacy", "noise_multiplier") in FIELDS


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_no_field_can_be_set_on_a_plan(section: str, key: str) -> None:
    table = getattr(Plan(), section)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(table, key, getattr(table, key))


def test_no_section_can_be_set_added_or_unknown() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Plan().privacy = Privacy(epsilon=100.0)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Plan.model_validate({"secrets": {}})
    with pytest.raises(ValidationError, match="extra"):
        Plan.model_validate({"privacy": {"epsilom": 1.0}})


def test_a_plan_of_a_deployment_always_makes_a_claim() -> None:
    assert Plan.private_sections == frozenset()
    open_privacy = Privacy.model_construct(**(Privacy().model_dump() | {"unit": "none"}))
    with pytest.raises(PlanError, match="has no mechanism"):
        mechanism_of(Plan.model_construct(**(dict(Plan()) | {"privacy": open_privacy})))
    for weaker in ({"unit": "none"}, {"noise": "none"}, {"noise_multiplier": 0.0}):
        with pytest.raises(ValidationError):
            Plan.model_validate({"privacy": weaker})


# What the fields come to


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 10**5))
def test_participations_are_a_clients_share_rounded_up(rounds: int, size: int, clients: int) -> None:
    """It is the share of all places in all cohorts."""
    plan = Plan(cohort=Cohort(rounds=rounds, size=size), data=Data(clients=clients))
    assert plan.participations == -(-rounds * size // clients)


@pytest.mark.parametrize(
    ("rounds", "size", "clients", "expected"), [(60, 11, 11, 60), (60, 1, 11, 6), (55, 1, 11, 5), (1, 1, 1000, 1)]
)
def test_participations_by_hand(rounds: int, size: int, clients: int, expected: int) -> None:
    assert Plan(cohort=Cohort(rounds=rounds, size=size), data=Data(clients=clients)).participations == expected


@given(plans, st.integers(1, 10**9))
def test_the_noise_is_the_noise_multiplier_times_the_sensitivity(plan: Plan, dimension: int) -> None:
    """Distributed noise has a sensitivity of its own: tests/privacy/mechanisms/test_distributed.py."""
    assume(plan.privacy.noise != "distributed")
    mechanism = mechanism_of(plan)
    assert mechanism.noise_std(dimension) == mechanism.noise_multiplier * mechanism.sensitivity(dimension)
    assert mechanism.noise_multiplier == plan.privacy.noise_multiplier
    grid = plan.privacy.clip_norm / 2**30 if plan.privacy.noise == "local" else 2 * mechanism.grid.step
    move = plan.privacy.clip_norm * (1.0 if plan.privacy.clip_quantile is None else math.hypot(1, 1 / 8))
    assert mechanism.sensitivity(dimension) == move + math.sqrt(dimension) * grid


@pytest.mark.parametrize(("noise", "grid"), [("local", 2.0**-30), ("central", 2.0**-14)])
@given(st.floats(1e-6, 1e6), st.floats(0.2, 1e3), st.integers(1, 10**8), st.integers(1, 10**5))
def test_the_noise_is_the_multiplier_times_the_clip_norm(
    noise: Any, grid: float, clip_norm: float, noise_multiplier: float, dimension: int, size: int
) -> None:
    """And a little more."""
    privacy = Privacy(noise=noise, clip_norm=clip_norm, noise_multiplier=noise_multiplier)
    std = mechanism_of(Plan(privacy=privacy, cohort=Cohort(size=size))).noise_std(dimension)
    assert noise_multiplier * clip_norm <= std
    assert std <= noise_multiplier * clip_norm * (1 + math.sqrt(dimension) * grid) * (1 + 1e-12)


@given(st.floats(1e-6, 1e6))
def test_units_are_clipped_a_1024th_below_the_clip_norm(clip_norm: float) -> None:
    plan = Plan(privacy=Privacy(clip_norm=clip_norm))
    assert plan.safe_clip_norm == clip_norm * 1023 / 1024
    assert plan.safe_clip_norm < clip_norm <= mechanism_of(plan).sensitivity(1)


def test_a_round_is_one_sampled_gaussian_a_local_step() -> None:
    """With the noise that is added."""
    plan = changed(Plan(), "privacy", noise="local", noise_multiplier=3.0, sampling_rate=0.125)
    plan = changed(plan, "training", local_steps=7)
    assert mechanism_of(plan).round_event == Composed(PoissonSampled(0.125, Gaussian(3.0)), 7)
    assert mechanism_of(plan).server_event == mechanism_of(plan).round_event
    assert plan.cell == ("record", "local")
    assert (mechanism_of(plan).budget.view, mechanism_of(plan).budget.unit) == ("server", "record")


def test_central_noise_bounds_nothing_against_the_server() -> None:
    plan = changed(Plan(), "privacy", noise="central", noise_multiplier=3.0)
    assert mechanism_of(plan).server_event == Unbounded()
    assert mechanism_of(plan).round_event == Composed(PoissonSampled(0.25, Gaussian(3.0)), 1)
    assert mechanism_of(plan).budget.view == "released"


def test_the_budget_is_the_plans_own() -> None:
    plan = changed(Plan(), "privacy", epsilon=1.5, delta=1e-7)
    assert (
        mechanism_of(plan).budget.epsilon,
        mechanism_of(plan).budget.delta,
        mechanism_of(plan).budget.relation,
    ) == (1.5, 1e-7, "add-or-remove-one")


CALIBRATED = [
    {},
    {"privacy": {"epsilon": 1.0, "delta": 1e-6, "sampling_rate": 0.05}},
    {"privacy": {"noise": "local", "epsilon": 4.0}, "training": {"local_steps": 5}, "cohort": {"rounds": 20}},
    {"privacy": {"sampling_rate": 1.0}, "cohort": {"rounds": 7, "size": 3}},
]


@pytest.mark.parametrize("tables", CALIBRATED)
def test_a_resolved_plan_nearly_uses_its_budget(tables: dict[str, Any]) -> None:
    """It costs at most the budget, and wastes less than one percent."""
    plan = make_plan(tables, Plan)
    assert 0.99 * plan.privacy.epsilon <= mechanism_of(plan).cost() <= plan.privacy.epsilon
    steps = plan.participations * plan.training.local_steps
    step = PoissonSampled(plan.privacy.sampling_rate, Gaussian(mechanism_of(plan).noise_multiplier))
    assert mechanism_of(plan).cost() == pytest.approx(epsilon(Composed(step, steps), plan.privacy.delta), rel=1e-9)


@pytest.mark.parametrize("tables", CALIBRATED)
def test_a_resolved_plan_reads_back_as_itself(tables: dict[str, Any]) -> None:
    """It writes its noise multiplier out."""
    plan = make_plan(tables, Plan)
    assert (
        plan.privacy.noise_multiplier
        == mechanism_of(plan).noise_multiplier
        == mechanism_of(Plan.model_validate(tables)).noise_multiplier
    )
    assert plan == plan
    assert accept_plan(plan.offered()).plan == plan
    assert make_plan(parse_tables(plan.to_toml()), Plan) == plan


def test_a_given_noise_multiplier_stays_as_given() -> None:
    plan = make_plan({"privacy": {"noise_multiplier": 5.0}}, Plan)
    assert mechanism_of(plan).noise_multiplier == 5.0
    assert mechanism_of(plan).cost() == epsilon(Composed(PoissonSampled(0.25, Gaussian(5.0)), 60), 1e-4)


def test_a_budget_that_no_noise_meets_is_a_fault_of_the_plan() -> None:
    with pytest.raises(PlanError, match="no noise"):
        make_plan({"privacy": {"epsilon": 1e-6}}, Plan)
