"""The answer of `bract budget` in words: (name, line) pairs for the terminal and for the report."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...privacy import mechanism_of
from ...privacy.budget import View
from ...privacy.planning.forecast import HOPELESS, WORKS, Signal
from .answer import BudgetAnswer, Variant

OBSERVERS: dict[View, str] = {"server": "to the server", "released": "to whoever sees only the released models"}

Lines = Iterator[tuple[str, str]]
"""(name, line) pairs; an empty name continues the pair before."""


def facts(answer: BudgetAnswer) -> Lines:
    """Yield the plan's cost, the forecast for training, and the answers to the optional questions."""
    plan = answer.plan
    yield "plan", f"{answer.name}: unit = {plan.privacy.unit}, noise = {plan.privacy.noise}"
    yield from costs("epsilon", answer.own)
    yield "budget", f"epsilon {plan.privacy.epsilon:g}, {OBSERVERS[mechanism_of(plan).budget_view]}"
    if plan.large_delta:
        unit = plan.privacy.unit
        yield (
            "delta",
            f"{plan.privacy.delta:g} is 1/n or more for n {unit}s: publishing a whole {unit} would satisfy it",
        )
    noise = mechanism_of(plan).noise_multiplier
    yield "noise", f"multiplier {noise:g}, in units of the most that one {plan.privacy.unit} can move a sum"
    yield "rounds", _rounds(answer)
    yield from prospects(answer)
    yield from replies(answer)


def costs(name: str, variant: Variant) -> Lines:
    """Yield both epsilons; first the one that the budget limits."""
    first = mechanism_of(variant.plan).budget_view
    for view in sorted(OBSERVERS, key=lambda view: view != first):
        yield name if view == first else "", f"{in_words(variant, view)}, {OBSERVERS[view]}"


def in_words(variant: Variant, view: View) -> str:
    """Return one view's epsilon as a phrase, or the reason why the view has no epsilon."""
    value, privacy = variant.cost.of(view), variant.plan.privacy
    if math.isinf(value):
        return "none: the server is trusted"
    return f"{show(value)} for each {privacy.unit} at delta {privacy.delta:g}"


def show(epsilon: float) -> str:
    """Return an epsilon with three decimals, or with three digits if it is large.

    >>> show(7.5379484), show(1234.5), show(math.inf)
    ('7.538', '1.23e+03', 'none')
    """
    if math.isinf(epsilon):
        return "none"
    return f"{epsilon:.3f}" if epsilon < 100 else f"{epsilon:.3g}"


def _rounds(answer: BudgetAnswer) -> str:
    plan, times = answer.plan, answer.plan.participations
    sums = f", {times * plan.sums:,} noised sums" if plan.sums > 1 else ""
    size, clients = plan.cohort.size, plan.data.clients
    return (
        f"{plan.cohort.rounds:,} with {size:,} of {clients:,} clients; a client takes part in at most {times:,}{sums}"
    )


def prospects(answer: BudgetAnswer) -> Lines:
    """Yield the forecast for training under the noise, and remedies if it is poor."""
    found = answer.own.signal
    if found is None:
        yield "training", "unknown: give --parameters to compare the noise with the signal"
        return
    yield "training", f"{found.verdict}: {ratio_in_words(found)}"
    yield "", _MEANING[found.verdict]
    for number, remedy in enumerate(answer.remedies):
        yield "" if number else "would help", remedy.words


def ratio_in_words(found: Signal) -> str:
    """Return the noise-to-signal ratios, over all rounds and in one step, as a phrase."""
    whole, step = show_ratio(found.ratio), show_ratio(found.step_ratio)
    return f"over all rounds the noise is {whole} times the signal, {step} times in one step"


def show_ratio(ratio: float) -> str:
    """Return a ratio with two significant digits.

    >>> show_ratio(0.0849), show_ratio(138.2), show_ratio(61000)
    ('0.085', '140', '61,000')
    """
    rounded = float(f"{ratio:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


_MEANING = {
    "works": f"test runs with a ratio up to {WORKS:g} came close to their quality without noise",
    "hard": f"test runs with a ratio above {WORKS:g} lost accuracy, above {HOPELESS:g} nearly all of it",
    "cannot work": f"test runs with a ratio above {HOPELESS:g} did little better than guessing",
}


def replies(answer: BudgetAnswer) -> Lines:
    """Yield the answers to the optional questions."""
    question, bought = answer.question, answer.purchase
    if answer.for_epsilon:
        noise = mechanism_of(answer.for_epsilon.plan).noise_multiplier
        yield f"--epsilon {question.epsilon:g}", f"needs noise multiplier {noise:g}"
        yield from _forecast(answer.for_epsilon)
    if answer.for_noise:
        yield from costs(f"--noise {question.noise:g}", answer.for_noise)
        yield from _forecast(answer.for_noise)
    if bought:
        buys = f"buys {bought.rounds:,} rounds at noise multiplier {answer.purchase_noise:g}"
        yield f"--rounds-for {question.rounds_for:g}", buys
        dearer = f"; {bought.dearer:,} would cost {bought.dearer_epsilon:.5g}" if bought.dearer_epsilon else ""
        times = f"a client takes part in at most {bought.participations:,} of them"
        yield "", f"{times}, at a cost of epsilon {bought.epsilon:.5g}{dearer}"


def _forecast(variant: Variant) -> Lines:
    if found := variant.signal:
        yield "", f"training {found.verdict}: {ratio_in_words(found)}"
