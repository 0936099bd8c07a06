"""The plot of a sweep: quality against epsilon, with the spread over the seeds and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from ..sweep.outcome import SweepOutcome, SweepPoint
from .page import Html, element
from .run_figures import ACCENT, INK, SECOND, VIEWS, captioned, legend, svg

HEIGHT = 3.6
"""Inches."""

WIDE, MOST_TICKS = 8.0, 12
"""The factor between epsilons from which the axis is logarithmic, and the most epsilons with a tick each."""

APART = 0.02
"""The least distance between two tick labels, as a fraction of the axis."""


def figures(outcome: SweepOutcome) -> Iterator[Html]:
    """Yield the plot with its caption, if any point has an epsilon."""
    finite = [point for point in outcome.points if point.epsilon(outcome.view) is not None]
    if not finite:
        yield element("p", "No point with an epsilon was finished and measured, so there is nothing to plot.")
        return
    front = outcome.front
    cheap, dear = front[0], front[-1]
    text = f"From {cheap.score} at epsilon {_epsilon(outcome, cheap):.3g}"
    text += f" to {dear.score} at epsilon {_epsilon(outcome, dear):.3g}, {VIEWS[outcome.view]}."
    yield captioned(
        text if len(front) > 1 else f"{text.partition(' to ')[0].replace('From', 'At best')}.", _plot(outcome)
    )
    yield element("p", _legend_in_words(outcome), class_="note")


def _legend_in_words(outcome: SweepOutcome) -> str:
    several = any(len(point.runs) > 1 for point in outcome.points)
    spread = " The band, and the bar of a point, run from the worst seed to the best." if several else ""
    return f"A dot is a point of the grid, a mean over seeds. No other point beats a point on the front.{spread}"


def _plot(outcome: SweepOutcome) -> Html:
    front, beaten = outcome.front, _beaten(outcome)
    figure = front[0].score.figure
    open_ = [point for point in outcome.points if point.epsilon(outcome.view) is None]

    def draw(axes: Axes) -> None:
        if beaten:
            _dots(axes, outcome, beaten, SECOND, "beaten")
        _front(axes, outcome, front)
        if open_:
            height = max((point.score for point in open_), key=lambda score: score.merit).value
            axes.axhline(height, color=INK, linewidth=1, linestyle="--", label="without an epsilon")
        if figure.fraction:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=_decimals(outcome)))
        axes.margins(x=0.06, y=0.12)
        _epsilon_axis(axes, [_epsilon(outcome, point) for point in (*front, *beaten)])
        axes.set_xlabel(f"epsilon {VIEWS[outcome.view]}")
        axes.set_ylabel(figure.name)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        legend(axes)

    return svg(draw, HEIGHT, f"Plot of {figure.name} against epsilon, with the front of the best points")


def _beaten(outcome: SweepOutcome) -> list[SweepPoint]:
    front = {id(point) for point in outcome.front}
    return [p for p in outcome.points if id(p) not in front and p.epsilon(outcome.view) is not None]


def _front(axes: Axes, outcome: SweepOutcome, front: Sequence[SweepPoint]) -> None:
    """Draw the front as a line, with a band for the spread over the seeds."""
    x = [_epsilon(outcome, point) for point in front]
    if len(front) > 1:
        low, high = [p.low for p in front], [p.high for p in front]
        axes.fill_between(x, low, high, color=ACCENT, alpha=0.18, linewidth=0)
        axes.plot(x, [p.score.value for p in front], color=ACCENT)
    _dots(axes, outcome, front, ACCENT, "front")


def _dots(axes: Axes, outcome: SweepOutcome, points: Sequence[SweepPoint], colour: str, name: str) -> None:
    x, y = [_epsilon(outcome, p) for p in points], [p.score.value for p in points]
    bars = [[max(0.0, p.score.value - p.low) for p in points], [max(0.0, p.high - p.score.value) for p in points]]
    axes.errorbar(x, y, yerr=bars, fmt="o", color=colour, elinewidth=1, capsize=2, markersize=4.5, label=name)


def _epsilon_axis(axes: Axes, epsilons: Sequence[float]) -> None:
    """Set up the horizontal axis for epsilon, with ticks at the points if these are few enough or the axis is log."""
    low, high = min(epsilons), max(epsilons)
    if low > 0 and high / low >= WIDE:
        axes.set_xscale("log")
    ticks = _apart(axes, sorted(set(epsilons)))
    if len(ticks) <= MOST_TICKS or axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:.3g}")


def _apart(axes: Axes, ticks: Sequence[float]) -> list[float]:
    """Return the ticks, without any that is too close to the one before."""
    to_axis = axes.transScale.transform
    places = [float(to_axis((tick, 0.5))[0]) for tick in ticks]
    least = APART * max(places[-1] - places[0], 1e-12)
    kept: list[int] = []
    for number, place in enumerate(places):
        if not kept or place - places[kept[-1]] > least:
            kept.append(number)
    return [ticks[number] for number in kept]


def _decimals(outcome: SweepOutcome) -> int | None:
    """Return the number of decimals for the percentages of the axis; None for matplotlib's choice."""
    values = [value for point in outcome.points for value in (point.low, point.high)]
    return 0 if max(values) - min(values) > 0.05 else None


def _epsilon(outcome: SweepOutcome, point: SweepPoint) -> float:
    return point.epsilon(outcome.view) or 0.0
