"""Computes the answer of `bract budget` for one plan: costs, curves and a forecast, in one record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...privacy import Plan, PlanError, make_plan, mechanism_of
from ...privacy.plan.schema import ModelStart
from ...privacy.plan.toml import Tables
from ...privacy.planning.bounds import Epsilons
from ...privacy.planning.compare import AccountantFigure, accountants
from ...privacy.planning.cost import MOST_ROUNDS, Purchase, cost, most_rounds, with_noise, with_target
from ...privacy.planning.curves import CurvePoint, over_cohort, over_dropouts, over_noise, over_rounds
from ...privacy.planning.forecast import Remedy, Signal, remedies, signal
from ..sizes import NOT_FOR_OPACUS, SIZES, count_parameters

LEAST_MULTIPLIER, MOST_MULTIPLIER = 1e-6, 1e4
"""The smallest and the largest noise multiplier of a curve."""

STEPS, MOST_DROPOUTS = 6, 10
"""A curve has 2 * STEPS steps, most by a factor of sqrt(2); the curve over dropouts has at most MOST_DROPOUTS."""


@dataclass(frozen=True)
class Question:
    """Optional questions: the noise for `epsilon`, the epsilon of `noise`, the rounds that `rounds_for` pays for."""

    epsilon: float | None = None
    noise: float | None = None
    rounds_for: float | None = None


@dataclass(frozen=True)
class Variant:
    """A plan, its cost, and the forecast of its signal; None if the number of parameters is unknown."""

    plan: Plan
    cost: Epsilons
    signal: Signal | None


@dataclass(frozen=True)
class BudgetAnswer:
    """The full answer for the plan called `name`; `own` is the plan itself, the other variants have other noise."""

    name: str
    question: Question
    own: Variant
    accountants: tuple[AccountantFigure, ...]
    remedies: tuple[Remedy, ...]
    for_epsilon: Variant | None
    for_noise: Variant | None
    purchase: Purchase | None
    purchase_noise: float
    rounds: tuple[CurvePoint, ...]
    cohort: tuple[CurvePoint, ...]
    noise: tuple[CurvePoint, ...]
    dropouts: tuple[CurvePoint, ...]

    @property
    def plan(self) -> Plan:
        """The resolved plan in question."""
        return self.own.plan


def read_budget_plan(tables: Tables, name: str, parameters: int | None = None) -> Plan:
    """Return the plan of these tables, with the number of parameters if it is known.

    It imports torch only to count a network that is not in `SIZES`.

    Raises:
        PlanError: `make_plan` refuses the tables; the plan protects nothing; its engine is Opacus, which cannot train
            its network; or the number of parameters is needed and unknown.
    """
    if ":" in str(tables.get("model", {}).get("name")):
        from ..modules import add_modules  # imports torch

        add_modules(tables)
    if "weights" in tables.get("model", {}):
        from ..weights import with_weights  # imports torch

        tables = with_weights(tables)
    tables = {section: dict(table) for section, table in tables.items() if section != "simulation"}
    if tables.get("privacy", {}).get("unit") == "none":
        raise PlanError("the plan protects nothing: privacy.unit is none", "set privacy.unit to record or client")
    if parameters is not None:
        tables.setdefault("model", {})["parameters"] = parameters
    try:
        return _able(make_plan(tables, Plan, name, _count))
    except _UnknownError as fault:
        if tables["privacy"].get("noise") != "distributed" or "parameters" in tables.get("model", {}):
            return make_plan(tables, Plan, name)
        what = f"the number of parameters of the model {fault} is not known here"
        raise PlanError(what, "give it with --parameters") from None


def _able(plan: Plan) -> Plan:
    name = plan.model.name
    if plan.privacy.unit == "record" and plan.training.engine == "opacus" and name in NOT_FOR_OPACUS:
        raise PlanError(f"Opacus cannot train {name}: it is recurrent", "set training.engine to auto")
    return plan


class _UnknownError(Exception):
    pass


def _count(name: str, shape: tuple[int, ...], classes: int, *start: ModelStart) -> int:
    found = None if start else count_parameters(name, shape, classes)
    if found is None and (start or name not in SIZES):
        found = _counted_by_torch(name, shape, classes, *start)
    if found is None:
        raise _UnknownError(name)
    return found


def _counted_by_torch(name: str, shape: tuple[int, ...], classes: int, *start: ModelStart) -> int | None:
    """Return the number of parameters of a network that `sizes` does not know; None if there is no such network."""
    from ...models import count_parameters as by_torch  # takes seconds to import
    from ...models import is_own

    try:
        return by_torch(name, shape, classes, *start)
    except KeyError:
        if is_own(name):
            raise
        return None


def answer(name: str, plan: Plan, question: Question) -> BudgetAnswer:
    """Return the answer for a resolved plan.

    Raises:
        PlanError: no plan meets the question.
    """
    for_noise = None if question.noise is None else with_noise(plan, question.noise)
    for_epsilon = None if question.epsilon is None else with_target(plan, question.epsilon)
    rounds_for, spender = question.rounds_for, for_noise or plan
    own = _variant(plan)
    return BudgetAnswer(
        name=name,
        question=question,
        own=own,
        accountants=accountants(plan),
        remedies=remedies(plan) if own.signal else (),
        for_epsilon=for_epsilon and _variant(for_epsilon),
        for_noise=for_noise and _variant(for_noise),
        purchase=None if rounds_for is None else most_rounds(spender, rounds_for),
        purchase_noise=mechanism_of(spender).noise_multiplier,
        rounds=over_rounds(plan, _rounds(plan.cohort.rounds)),
        cohort=over_cohort(plan, _sizes(plan)),
        noise=over_noise(plan, _noises(plan)),
        dropouts=over_dropouts(plan, _survivors(plan)) if plan.privacy.noise == "distributed" else (),
    )


def _variant(plan: Plan) -> Variant:
    return Variant(plan, cost(plan), None if plan.model.parameters is None else signal(plan))


def _rounds(rounds: int) -> list[int]:
    around = (round(rounds * 2 ** (step / 2)) for step in range(-STEPS, STEPS + 1))
    return sorted({min(MOST_ROUNDS, max(1, number)) for number in around})


def _noises(plan: Plan) -> list[float]:
    """Return noise multipliers from a quarter of the plan's multiplier to sixteen times it."""
    around = (mechanism_of(plan).noise_multiplier * 2 ** (step / 2) for step in range(2 - STEPS, 3 + STEPS))
    return [noise for noise in around if LEAST_MULTIPLIER <= noise <= MOST_MULTIPLIER]


def _sizes(plan: Plan) -> list[int]:
    """Return cohort sizes from 1 to all clients, and the plan's own size."""
    clients, count = plan.data.clients, 2 * STEPS
    spread = (round(clients ** (step / count)) for step in range(count + 1))
    return sorted({*spread, plan.cohort.size})


def _survivors(plan: Plan) -> list[int]:
    """Return numbers of survivors, from the whole cohort down to the fewest allowed."""
    size, lost = plan.cohort.size, plan.cohort.size - plan.least_survivors
    steps = min(lost, MOST_DROPOUTS)
    return [size - round(lost * step / steps) for step in range(steps + 1)] if steps else [size]


def to_json(answer: BudgetAnswer) -> dict[str, Any]:
    """Return the answer as plain values; None for an epsilon without a bound."""
    plan = answer.plan
    return {
        "plan": answer.name,
        "unit": plan.privacy.unit,
        "noise": plan.privacy.noise,
        "delta": plan.privacy.delta,
        "budget": {"epsilon": plan.privacy.epsilon, "view": mechanism_of(plan).budget_view},
        "rounds": plan.cohort.rounds,
        "cohort": plan.cohort.size,
        "clients": plan.data.clients,
        "participations": plan.participations,
        "steps": plan.participations * plan.sums,
        **_of_variant(answer.own),
        "remedies": [asdict(remedy) for remedy in answer.remedies],
        "answers": _answers(answer),
        "accountants": [
            {
                "accountant": figure.accountant,
                "epsilon": figure.epsilon,
                "reported": figure.standing == "reported",
                "bound": figure.standing != "estimate",
                "why": figure.why,
            }
            for figure in answer.accountants
        ],
        "curves": _curves(answer),
    }


def _of_variant(variant: Variant) -> dict[str, Any]:
    found = variant.signal
    return {
        "noise_multiplier": mechanism_of(variant.plan).noise_multiplier,
        "epsilon": _epsilons(variant.cost),
        "signal": found
        and {
            **asdict(found),
            "step_ratio": found.step_ratio,
            "ratio": found.ratio,
            "verdict": found.verdict,
        },
    }


def _answers(answer: BudgetAnswer) -> dict[str, Any]:
    asked = answer.question
    found: dict[str, Any] = {}
    if answer.for_epsilon:
        found["for_epsilon"] = {"target": asked.epsilon, **_of_variant(answer.for_epsilon)}
    if answer.for_noise:
        found["for_noise"] = _of_variant(answer.for_noise)
    if answer.purchase:
        found["rounds_for"] = {"noise_multiplier": answer.purchase_noise, **asdict(answer.purchase)}
    return found


def _curves(answer: BudgetAnswer) -> dict[str, Any]:
    axes = {"rounds": answer.rounds, "cohort": answer.cohort, "noise_multiplier": answer.noise}
    curves = {axis: [{axis: point.at, **_at(point)} for point in points] for axis, points in axes.items()}
    dropouts = [{"dropouts": point.at, "epsilon": _epsilons(point.epsilons)} for point in answer.dropouts]
    return {"accountant": "rdp", **curves, "dropouts": dropouts}


def _at(point: CurvePoint) -> dict[str, Any]:
    return {"epsilon": _epsilons(point.epsilons), "ratio": ratio_at(point)}


def ratio_at(point: CurvePoint) -> float | None:
    """Return the noise-to-signal ratio at a point of a curve, or None if the number of parameters is unknown."""
    plan = point.plan
    return None if plan.model.parameters is None else signal(plan).ratio


def _epsilons(epsilons: Epsilons) -> dict[str, float | None]:
    return {view: value if math.isfinite(value) else None for view, value in asdict(epsilons).items()}
