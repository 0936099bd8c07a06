"""The plots of the budget report: epsilon over rounds, cohort and dropouts, and the noise-to-signal ratio."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from ...privacy import mechanism_of
from ...privacy.accounting.accountant import VAST
from ...privacy.budget import View
from ...privacy.planning.cost import cost
from ...privacy.planning.curves import CurvePoint
from ...privacy.planning.forecast import HOPELESS, WORKS
from ..budget.answer import BudgetAnswer, ratio_at
from ..budget.words import show, show_ratio
from .page import Html
from .run_figures import ACCENT, INK, SECOND, VIEWS, captioned, legend, svg

HEIGHT = 2.8
"""Inches."""

SPAN = 30.0
"""An axis that spans at most the square of this factor has ticks at 1, 2 and 5 times each power of ten."""

DASHES: dict[View, str] = {"server": "-", "released": "-."}
COLOURS: dict[View, str] = {"server": ACCENT, "released": SECOND}


def figures(answer: BudgetAnswer) -> Iterator[Html]:
    """Yield the plots, each with a caption that states its result."""
    plan, own = answer.plan, answer.own.cost.of(mechanism_of(answer.plan).budget_view)
    charged = f"{show(own)} is charged for {plan.cohort.rounds:,}, the budget is {plan.privacy.epsilon:g}"
    text = f"Epsilon over rounds: {charged}."
    yield captioned(text, _over("round", charged_over_rounds(answer), answer, True, plan.privacy.epsilon))
    if answer.own.signal:
        text = "Noise-to-signal ratio against epsilon, for this plan with more or less noise:"
        yield captioned(f"{text} {show_ratio(answer.own.signal.ratio)} now.", _trade_off(answer))
    if len(answer.cohort) > 1:
        text = f"Epsilon over the cohort size, at the same noise multiplier: {plan.cohort.size:,} now."
        yield captioned(text, _over("clients in a round", answer.cohort, answer, charged=False))
        if answer.own.signal:
            yield captioned("Noise-to-signal ratio over the cohort size.", _cohort_ratio(answer))
    if len(answer.dropouts) > 1:
        text = f"Epsilon over dropouts in every round: beyond {answer.dropouts[-1].at:.0%} no sum is opened."
        yield captioned(text, _dropouts(answer))


def charged_over_rounds(answer: BudgetAnswer) -> tuple[CurvePoint, ...]:
    """Return the curve over rounds with the charged epsilons instead of their Renyi bounds."""
    return tuple(replace(point, epsilons=cost(point.plan)) for point in answer.rounds)


def _curves(axes: Axes, points: Sequence[CurvePoint], marker: str = "") -> None:
    """Draw epsilon for each view in which it is finite, and equal curves only once."""
    curves: dict[tuple[float, ...], list[View]] = {}
    for view in VIEWS:
        curves.setdefault(tuple(point.epsilons.of(view) for point in points), []).append(view)
    x = [point.at for point in points]
    for values, (view, *more) in curves.items():
        if not any(map(math.isinf, values)):
            name = "either view" if more else _SHORT[view]
            axes.plot(x, values, color=COLOURS[view], linestyle=DASHES[view], marker=marker, label=name)


_SHORT: dict[View, str] = {"server": "against the server", "released": "released models"}


def _over(
    axis: str, points: Sequence[CurvePoint], answer: BudgetAnswer, charged: bool, target: float | None = None
) -> Html:
    """Return the plot of epsilon over a quantity on a log axis; the charged epsilon and the budget are optional."""

    def draw(axes: Axes) -> None:
        _curves(axes, points)
        if charged:
            own = answer.own.cost.of(mechanism_of(answer.plan).budget_view)
            axes.plot([answer.plan.cohort.rounds], [own], "o", color=INK, label="charged")
        if target is not None:
            axes.axhline(target, color=INK, linewidth=1, linestyle="--", label=f"budget {target:g}")
        _factors(axes, "x", [point.at for point in points])
        axes.set_ylim(bottom=0)
        _name(axes, axis, "epsilon")

    return svg(draw, HEIGHT, f"Line plot of epsilon over {axis}s")


def _trade_off(answer: BudgetAnswer) -> Html:
    view = mechanism_of(answer.plan).budget_view
    shown = [point for point in answer.noise if point.epsilons.of(view) <= VAST or _is_own(point, answer)]
    points = [(point.epsilons.of(view), ratio_at(point) or 0.0) for point in shown]

    def draw(axes: Axes) -> None:
        axes.plot(*zip(*points, strict=True), color=ACCENT, marker="o", label="this plan with other noise")
        own = next(pair for pair, point in zip(points, shown, strict=True) if _is_own(point, answer))
        axes.plot(*([value] for value in own), "o", color=INK, markersize=6, label="this plan")
        _limits(axes)
        _factors(axes, "x", [epsilon for epsilon, _ in points])
        _factors(axes, "y", [ratio for _, ratio in points])
        _name(axes, f"epsilon {VIEWS[view]}", "noise / signal")

    return svg(draw, HEIGHT, "Line plot of the noise-to-signal ratio against epsilon")


def _is_own(point: CurvePoint, answer: BudgetAnswer) -> bool:
    return math.isclose(point.at, mechanism_of(answer.plan).noise_multiplier)


def _cohort_ratio(answer: BudgetAnswer) -> Html:
    points = [(point.at, ratio_at(point) or 0.0) for point in answer.cohort]

    def draw(axes: Axes) -> None:
        axes.plot(*zip(*points, strict=True), color=ACCENT, marker="o")
        _limits(axes)
        _factors(axes, "x", [size for size, _ in points])
        _factors(axes, "y", [ratio for _, ratio in points])
        _name(axes, "clients in a round", "noise / signal")

    return svg(draw, HEIGHT, "Line plot of the noise-to-signal ratio over the cohort size")


def _limits(axes: Axes) -> None:
    axes.axhline(WORKS, color=INK, linewidth=1, linestyle="--", label=f"works up to {WORKS:g}")
    axes.axhline(HOPELESS, color=SECOND, linewidth=1, linestyle="--", label=f"cannot work above {HOPELESS:g}")


def _dropouts(answer: BudgetAnswer) -> Html:
    def draw(axes: Axes) -> None:
        _curves(axes, answer.dropouts, marker="o")
        axes.axhline(answer.plan.privacy.epsilon, color=INK, linewidth=1, linestyle="--", label="budget")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.margins(y=0.15)
        _name(axes, "share of the cohort that drops out", "epsilon")

    return svg(draw, HEIGHT, "Line plot of epsilon over the share that drops out")


def _factors(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks."""
    axis, scale = (axes.xaxis, axes.set_xscale) if which == "x" else (axes.yaxis, axes.set_yscale)
    scale("log")
    steps = (1.0, 2.0, 5.0) if max(values) <= SPAN**2 * min(values) else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        legend(axes)
