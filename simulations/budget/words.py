"""The answer to `bract budget` in words: pairs of a name and a line, which a terminal and a page both show."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...privacy.budget import View
from ...privacy.planning.forecast import HOPELESS, WORKS, Signal
from .answer import Answer, Variant

WATCHERS: dict[View, str] = {"server": "to the server", "released": "to whoever sees only the released models"}

Facts = Iterator[tuple[str, str]]
"""Names, empty where a line goes on with the one before, and what is said."""


def facts(answer: Answer) -> Facts:
    """Yield what the plan costs and how, whether training can stand its noise, and whatever else was asked."""
    plan = answer.plan
    yield "plan", f"{answer.name}: unit = {plan.privacy.unit}, noise = {plan.privacy.noise}"
    yield from costs("epsilon", answer.own)
    yield "budget", f"epsilon {plan.privacy.epsilon:g}, {WATCHERS[plan.budget.view]}"
    if plan.large_delta:
        unit = plan.privacy.unit
        yield (
            "delta",
            f"{plan.privacy.delta:g} is one part of all {unit}s or more: to publish one in full keeps to it",
        )
    yield (
        "noise",
        f"multiplier {plan.noise_multiplier:g}: in units of the most that one {plan.privacy.unit} moves a sum",
    )
    yield "rounds", _rounds(answer)
    yield from prospects(answer)
    yield from replies(answer)


def costs(name: str, variant: Variant) -> Facts:
    """Yield both epsilons, the one that the budget binds first."""
    first = variant.plan.budget.view
    for view in sorted(WATCHERS, key=lambda view: view != first):
        yield name if view == first else "", f"{in_words(variant, view)}, {WATCHERS[view]}"


def in_words(variant: Variant, view: View) -> str:
    """Return one epsilon as a phrase, and the reason where there is none."""
    value, privacy = variant.cost.of(view), variant.plan.privacy
    if math.isinf(value):
        return "none: the server is trusted"
    return f"{show(value)} for each {privacy.unit} at delta {privacy.delta:g}"


def show(epsilon: float) -> str:
    """Return an epsilon with three decimals, or three digits where it is large.

    >>> show(7.5379484), show(1234.5), show(math.inf)
    ('7.538', '1.23e+03', 'none')
    """
    if math.isinf(epsilon):
        return "none"
    return f"{epsilon:.3f}" if epsilon < 100 else f"{epsilon:.3g}"


def _rounds(answer: Answer) -> str:
    plan, times = answer.plan, answer.plan.participations
    sums = f", {times * plan.sums:,} noised sums" if plan.sums > 1 else ""
    size, clients = plan.cohort.size, plan.data.clients
    return f"{plan.cohort.rounds:,} with {size:,} of {clients:,} clients; a client is in {times:,} at most{sums}"


def prospects(answer: Answer) -> Facts:
    """Yield whether training can stand the noise, and what would help if it cannot."""
    found = answer.own.signal
    if found is None:
        yield "training", "unknown: give --parameters to have the noise compared with what there is to learn"
        return
    yield "training", f"{found.verdict}: {ratio_in_words(found)}"
    yield "", _MEANING[found.verdict]
    for number, remedy in enumerate(answer.remedies):
        yield "" if number else "would help", remedy.words


def ratio_in_words(found: Signal) -> str:
    """Return the two ratios as a phrase."""
    whole, step = show_ratio(found.ratio), show_ratio(found.step_ratio)
    return f"over all rounds the noise is {whole} times the signal, {step} times in one step"


def show_ratio(ratio: float) -> str:
    """Return a ratio with two digits.

    >>> show_ratio(0.0849), show_ratio(138.2), show_ratio(61000)
    ('0.085', '140', '61,000')
    """
    rounded = float(f"{ratio:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


_MEANING = {
    "works": f"trainings up to {WORKS:g} came near to what they reach without noise",
    "hard": f"above {WORKS:g} accuracy is lost, above {HOPELESS:g} nearly all of it",
    "cannot work": f"trainings above {HOPELESS:g} came to little more than guessing",
}


def replies(answer: Answer) -> Facts:
    """Yield the answers to what was asked beside the plan itself."""
    question, bought = answer.question, answer.purchase
    if answer.for_epsilon:
        noise = answer.for_epsilon.plan.noise_multiplier
        yield f"--epsilon {question.epsilon:g}", f"takes noise multiplier {noise:g}"
        yield from _bodes(answer.for_epsilon)
    if answer.for_noise:
        yield from costs(f"--noise {question.noise:g}", answer.for_noise)
        yield from _bodes(answer.for_noise)
    if bought:
        buys = f"buys {bought.rounds:,} rounds at noise multiplier {answer.purchase_noise:g}"
        yield f"--rounds-for {question.rounds_for:g}", buys
        dearer = f"; {bought.dearer:,} would cost {bought.dearer_epsilon:.5g}" if bought.dearer_epsilon else ""
        yield "", f"the {bought.participations:,} that a client is in cost epsilon {bought.epsilon:.5g}{dearer}"


def _bodes(variant: Variant) -> Facts:
    if found := variant.signal:
        yield "", f"training {found.verdict}: {ratio_in_words(found)}"
