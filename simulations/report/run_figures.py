"""The plots of a run's report: inline SVG in the page's colours, identical for identical runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ...privacy import Budget
from ...privacy.budget import View
from .page import Html, element

if TYPE_CHECKING:  # a report without a run imports no torch
    from ...server.round_log import RoundRecord

INK, RULE, ACCENT, SECOND = "#010203", "#010204", "#010205", "#010206"
COLOURS = {INK: "var(--ink)", RULE: "var(--rule)", ACCENT: "var(--accent)", SECOND: "var(--second)"}
"""Placeholder colours for matplotlib, and the page colours that replace them."""

STYLE = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
}
WIDTH, HEIGHT, LOW, BAR_HEIGHT = 8.4, 2.6, 2.0, 0.95
"""Inches; the page scales the plots to its width."""

MARKED = 40
"""The largest number of points of a curve with a marker each."""

STEPS = (1, 2, 5, 10)
"""Distances between ticks of an integer axis, times a power of ten."""

APART = 120
"""The largest number of rounds with gaps between their bars."""

RoundValue = tuple[int, float]
EpsilonCurve = tuple[list[RoundValue], str]
"""The points (round, value) of a curve, and its name."""

VIEWS: dict[View, str] = {
    "server": "against the server",
    "released": "against someone who sees only the released models",
}


def figures(records: Sequence[RoundRecord], budget: Budget, epsilon: Mapping[View, float | None]) -> Iterator[Html]:
    """Yield the plots for which the run has data, each with a caption that states its result."""
    if not records:
        yield element("p", "No round was finished, so there is nothing to plot.")
    if scores := [record.score for record in records if record.score]:
        first, last = scores[0], scores[-1]
        text = f"{last.figure.title}: {first} when it was first measured, {last} when it was last measured."
        yield captioned(text, _score_plot(records))
    elif records:
        yield element("p", "Quality was not measured in any round.")
    if curves := _epsilon_curves(records):
        text = f"Epsilon: {', '.join(f'{points[-1][1]:.3f} {name}' for points, name in curves)}."
        yield captioned(text, _epsilon_plot(curves, budget))
    spent = epsilon[budget.view]
    if budget.epsilon is not None and spent is not None:
        left = max(budget.epsilon - spent, 0.0)
        text = f"Budget {VIEWS[budget.view]}: {spent:.3f} of {budget.epsilon:g} is spent, {left:.3f} is left."
        yield captioned(text, _budget_plot(spent, budget.epsilon))
    if records:
        text = f"Participants: {_turnout(records)}."
        yield captioned(text, _cohort_plot(records))


def captioned(text: str, plot: Html) -> Html:
    """Return a plot with a caption."""
    return element("figure", element("figcaption", text), plot)


def _turnout(records: Sequence[RoundRecord]) -> str:
    chosen, survived = sum(r.cohort for r in records), sum(r.survivors for r in records)
    if chosen == survived:
        return "every client that was chosen for a round was in its sum"
    return f"clients were chosen {chosen:,} times and dropped out {chosen - survived:,} times"


def _score_plot(records: Sequence[RoundRecord]) -> Html:
    """Return the plot of the measured scores over the rounds, from 0 or the lowest score up to the best possible one.

    The plot is cut off below -1: early values of R2 can be far lower, and only mean that nothing was learnt yet.
    """
    scores = [(record.round, record.score) for record in records if record.score]
    measured, figure = [(number, score.value) for number, score in scores], scores[0][1].figure

    def draw(axes: Axes) -> None:
        _curve(axes, measured, ACCENT, "-", None)
        axes.margins(y=0.12)
        axes.set_ylim(max(-1.0, min(0.0, *(value for _, value in measured))), figure.most)
        axes.set_ylabel(figure.name)
        if figure.fraction:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _rounds(axes, [record.round for record in records])

    return svg(draw, HEIGHT, f"Line plot of {figure.name} over the rounds")


def _epsilon_plot(curves: Sequence[EpsilonCurve], budget: Budget) -> Html:
    """Return the plot of epsilon over the rounds, one curve for each finite view, with the budget as a line."""

    def draw(axes: Axes) -> None:
        for (points, name), colour, dash in zip(curves, (ACCENT, SECOND), ("-", "-."), strict=False):
            _curve(axes, points, colour, dash, name)
        if budget.epsilon is not None:
            axes.axhline(budget.epsilon, color=INK, linewidth=1, linestyle="--", label=f"budget {budget.epsilon:g}")
        axes.set_ylim(bottom=0)
        axes.margins(y=0.12)
        _rounds(axes, [number for points, _ in curves for number, _ in points])
        legend(axes)

    return svg(draw, HEIGHT, "Line plot of epsilon over the rounds, with the budget as a line")


def _epsilon_curves(records: Sequence[RoundRecord]) -> list[EpsilonCurve]:
    """Return the finite curves with the names of their views; equal curves are merged."""
    curves = [([(r.round, e) for r in records if (e := r.epsilon[view]) is not None], VIEWS[view]) for view in VIEWS]
    finite = [(points, name) for points, name in curves if points]
    return [(points, " and ".join(name for _, name in same)) for points, same in groupby(finite, itemgetter(0))]


def _budget_plot(spent: float, budget: float) -> Html:
    """Return the budget as one bar, divided into spent and left."""
    spent = min(spent, budget)

    def draw(axes: Axes) -> None:
        axes.barh(0, spent, color=ACCENT, label="spent")
        axes.barh(0, budget - spent, left=spent, color="none", edgecolor=ACCENT, linewidth=1, label="left")
        axes.set_xlim(0, budget * 1.001)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("epsilon")
        legend(axes)

    return svg(draw, BAR_HEIGHT, "Bar of the budget, divided into spent and left")


def _cohort_plot(records: Sequence[RoundRecord]) -> Html:
    """Return stacked bars for each round: the clients in its sum and, above them, the dropouts."""
    half = 0.4 if len(records) <= APART else 0.5
    edges = [edge for record in records for edge in (record.round - half, record.round + half)]
    survivors = _with_gaps([record.survivors for record in records])
    cohort = _with_gaps([record.cohort for record in records])

    def draw(axes: Axes) -> None:
        axes.stairs(survivors, edges, fill=True, color=ACCENT, alpha=0.8, linewidth=0, label="in the sum")
        axes.stairs(cohort, edges, baseline=survivors, fill=True, color=SECOND, linewidth=0, label="dropped out")
        axes.set_ylim(0, 1.1 * max(1, *cohort))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS, integer=True))
        _rounds(axes, [record.round for record in records])
        legend(axes)

    return svg(draw, LOW, "Stacked bars for each round: clients in the sum, and clients that dropped out")


def _with_gaps(counts: Sequence[int]) -> list[int]:
    """Return the counts with a zero between neighbours, which draws a gap between their bars."""
    return [value for count in counts for value in (count, 0)][:-1]


def _curve(axes: Axes, points: Sequence[RoundValue], colour: str, dash: str, name: str | None) -> None:
    marker = "o" if len(points) <= MARKED else ""
    axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, marker=marker, label=name)


def _rounds(axes: Axes, numbers: Sequence[int]) -> None:
    """Set up the horizontal axis for rounds."""
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=STEPS, integer=True, min_n_ticks=1))
    axes.set_xlabel("round")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def legend(axes: Axes) -> None:
    """Place the legend above the plot, where it covers no curve."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)


def svg(draw: Callable[[Axes], None], height: float, label: str) -> Html:
    """Return the plot that `draw` draws, as SVG with `label` for screen readers; without date, random id or style."""
    file = io.StringIO()
    with style.context(["default", STYLE | {"svg.hashsalt": label}]):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        unsigned = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(file, metadata=unsigned)
    return _inline(file.getvalue(), label)


def _inline(document: str, label: str) -> Html:
    """Return a standalone SVG document as an inline element, without the ids that a page with several would share."""
    view = re.search(r'viewBox="[^"]*"', document)
    body = document[document.index(">", document.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    for placeholder, colour in COLOURS.items():
        body = body.replace(placeholder, colour)
    return Html(f'<svg {view.group() if view else ""} role="img" aria-label="{escape(label)}">{body.strip()}')
