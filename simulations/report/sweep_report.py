"""The report of a sweep: one HTML file with quality against epsilon, every point, and the cost of the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...privacy import View
from ...privacy.storage import replace_file
from ..study import Study
from ..sweep.axes import describe, show
from ..sweep.cost import Cost
from ..sweep.outcome import SweepOutcome, SweepPoint
from ..sweep.progress import in_words
from .page import Html, element, join, page, rows, section
from .run_figures import VIEWS
from .sweep_figures import figures

STYLE = Html("""<style>
.wide { overflow-x: auto; }
.points th, .points td { width: auto; padding-right: 1rem; }
.points thead th { color: var(--quiet); vertical-align: bottom; border-bottom-color: var(--quiet); }
.points .number { text-align: right; }
.points td.number { white-space: nowrap; }
table + .note { margin-top: 1.2rem; }
.points tr.best td { font-weight: 650; }
.points tr.front td:first-child { border-left: .25rem solid var(--accent); padding-left: .6rem; }
.points td:first-child, .points th:first-child { border-left: .25rem solid transparent; padding-left: .6rem; }
</style>""")


def write_report(path: Path, outcome: SweepOutcome, studies: Sequence[Study]) -> None:
    """Write the report of a sweep over these studies, one per point, to `path`.

    Raises:
        StorageError: the file cannot be written; an old report stays intact.
    """
    title = f"{_common(study.model.name for study in studies)} on {_common(study.data.name for study in studies)}"
    private = outcome.request.selection is not None
    parts = [
        STYLE,
        element("header", *_header(title, outcome)),
        _headline(outcome),
        *(_outcome_of_selection(outcome) if private else _table_of_points(outcome)),
        section("What the search costs", *_cost(outcome)),
        section("How to read this", element("ul", *_caveats(outcome))),
        section("The request", *_asked(outcome)),
    ]
    replace_file(path, page(f"Sweep report: {title}", parts).encode("utf-8", "backslashreplace"))


def _common(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _header(title: str, outcome: SweepOutcome) -> Iterator[Html]:
    yield element("p", "Sweep report", class_="kind")
    yield element("h1", title)
    if outcome.request.selection is None:
        yield element("p", f"{_size(outcome)}, simulated on one machine.", class_="lead")
    else:
        yield element("p", "Private selection of one outcome, simulated on one machine.", class_="lead")
    if outcome.failed:
        first = outcome.failed[0]
        text = f"the first of them, {describe(first.values)} with seed {first.seed}, says: {first.error}."
        yield _notice(f"{_count(len(outcome.failed), 'run')} failed:", text)
    yield _notice("For study, not for release:", "the runs are seeded, so their noise is no secret.")


def _size(outcome: SweepOutcome) -> str:
    points = 1
    for axis in outcome.request.axes:
        points *= len(axis.values)
    seeds = outcome.request.seeds
    each = f" with {seeds} seeds each" if seeds > 1 else ""
    return f"{_count(len(outcome.records), 'run')}: {_count(points, 'point')} of the grid{each}"


def _notice(start: str, text: str) -> Html:
    return element("p", element("strong", start), f" {text}", class_="notice", role="note")


def _headline(outcome: SweepOutcome) -> Html:
    best, cost = outcome.best, outcome.cost
    private = outcome.request.selection is not None
    facts = [
        (
            f"{outcome.figure.title} of the outcome"
            if private
            else f"Best {outcome.figure.name}, mean over the seeds",
            str(best.score) if best else "not measured",
        ),
        *((f"Epsilon of that run {VIEWS[view]}", _own(best, view)) for view in VIEWS),
    ]
    whole = "Epsilon of the selection" if private else "Epsilon of the whole search"
    facts += [(f"{whole} {VIEWS[view]}", _figure(cost.epsilon[view], cost.reasons.get(view))) for view in VIEWS]
    cells = (element("div", element("dt", name), _shown(value)) for name, value in facts)
    return element("dl", *cells, class_="headline")


def _own(best: SweepPoint | None, view: View) -> str:
    """Return the epsilon of one run of the best point, or the reason why there is none."""
    if best is None:
        return "not measured"
    open_ = best.epsilon("released") is None
    return _figure(best.epsilon(view), "nothing is protected" if open_ else "the server is trusted")


def _figure(epsilon: float | None, reason: str | None = None) -> str:
    if epsilon is not None:
        return f"{epsilon:.3f}"
    return f"none: {reason}" if reason else "none"


def _shown(value: str) -> Html:
    return element("dd", value, class_="words" if value.startswith("no") else "figure")


def _table_of_points(outcome: SweepOutcome) -> Iterator[Html]:
    yield section(f"{outcome.figure.title} against epsilon", *figures(outcome))
    yield section("All points", *_points(outcome))
    if outcome.failed:
        rows_ = (
            (f"{describe(r.values)}, seed {r.seed}", f"{r.error}. What to do: {r.hint}.") for r in outcome.failed
        )
        yield section("Runs that failed", element("table", element("tbody", rows(rows_))))


def shown(outcome: SweepOutcome) -> Html:
    """Return the table of points, as a notebook shows it."""
    return element("div", *_points(outcome))


def _points(outcome: SweepOutcome) -> Iterator[Html]:
    if not outcome.points:
        yield element("p", "No run was finished and measured.")
        return
    keys = [axis.key for axis in outcome.request.axes]
    heads = [*map(_text, keys), *map(_number, (outcome.figure.name, "from", "to", "loss"))]
    heads += [_number("epsilon, server"), _number("epsilon, released"), _number("seeds")]
    head = element("thead", element("tr", *(element("th", text, **how, scope="col") for text, how in heads)))
    body = element("tbody", *(_row(outcome, keys, point) for point in outcome.points))
    yield element("p", _ABOUT_POINTS.format(name=outcome.figure.name), class_="note")
    yield element("div", element("table", head, body, class_="points"), class_="wide")


_ABOUT_POINTS = (
    "Means over the seeds, with the smallest and the largest {name}. The best point is in bold; a bar marks the"
    " points that no other point beats in both {name} and epsilon. Epsilons are for one run."
)


def _row(outcome: SweepOutcome, keys: Sequence[str], point: SweepPoint) -> Html:
    cells = [_text(show(point.values[key])) for key in keys]
    cells += [_number(point.show(value)) for value in (point.score.value, point.low, point.high)]
    cells += [_number("" if point.loss is None else f"{point.loss:.3f}")]
    cells += [_number(_figure(point.epsilon(view))) for view in ("server", "released")]
    cells += [_number(str(len(point.runs)))]
    in_front = any(point is other for other in outcome.front)
    marks = [name for name, is_so in (("best", point is outcome.best), ("front", in_front)) if is_so]
    return element("tr", *(element("td", text, **how) for text, how in cells), class_=" ".join(marks))


def _text(text: str) -> tuple[str, Mapping[str, str]]:
    return text, {}


def _number(text: str) -> tuple[str, Mapping[str, str]]:
    return text, {"class_": "number"}


def _outcome_of_selection(outcome: SweepOutcome) -> Iterator[Html]:
    best, selection = outcome.best, outcome.request.selection
    if best is None:
        yield section("The outcome", element("p", "None: the drawn number of tries is zero."))
        return
    facts = [(key, element("code", show(value))) for key, value in best.values.items()]
    facts += [(best.score.figure.title, str(best.score)), ("Its folder", element("code", best.runs[0].folder))]
    law = "" if selection is None else f"{selection.tries:g} tries expected, {selection.law} law"
    yield section(
        "The outcome",
        element("p", f"The best by {best.score.figure.name} of a secret number of tries ({law})."),
        _table(facts),
    )


def _cost(outcome: SweepOutcome) -> Iterator[Html]:
    cost, selection = outcome.cost, outcome.request.selection
    if selection is None and not cost.runs:
        yield element("p", "No run has released anything.")
        return
    if selection is None:
        yield element("p", _EVERY_RUN)
        facts = _views(f"All {cost.runs} runs" if cost.runs != 1 else "The one run", cost, cost.epsilon)
    else:
        yield element("p", _SELECTION.format(tries=f"{selection.tries:g}", law=selection.law))
        facts = _views("The outcome", cost, cost.epsilon)
    more = selection is not None or cost.runs > cost.points
    yield _table([*facts, *(_views("One run per point", cost, cost.once) if more else ())])


_EVERY_RUN = (
    "Every run is a release to whoever compares the runs, even if only the best one is published: the choice reads"
    " all of them. On real data the costs of all runs, repetitions with other seeds included, add up; these"
    " epsilons charge each client for as many rounds as the client with the most rounds. Only a search on"
    " public data costs nothing: a simulation over private data reads them as any training does. With many"
    " candidates, private selection (--select private) is cheaper."
)
_SELECTION = (
    "Candidates were drawn from the grid uniformly and with replacement, with {tries} expected tries under the"
    " {law} law, and only the best outcome is released (Liu, Talwar 2019; Papernot, Steinke 2022, theorems 2 and"
    " 6). Every candidate is charged like the most expensive one. On real data the number of tries, all other"
    " outcomes and their folders stay secret."
)


def _views(what: str, cost: Cost, epsilon: Mapping[View, float | None]) -> Iterator[tuple[str, str]]:
    for view in VIEWS:
        figure = in_words(cost, epsilon, view)
        yield f"{what}, {VIEWS[view]}", figure if epsilon[view] is None else f"epsilon {figure}"


def _caveats(outcome: SweepOutcome) -> Iterator[Html]:
    items = [_TEST_RECORDS, _SEEDED]
    if outcome.request.selection is None:
        items = [_SELECTION_BIAS, *items]
    yield from (element("li", element("strong", name), f" {text}") for name, text in items)


_SELECTION_BIAS = (
    "Selection bias.",
    "The best point was chosen by its score: with fresh seeds its score tends to be lower. These seeds cannot"
    " distinguish points whose bands overlap.",
)
_TEST_RECORDS = (
    "The test records.",
    "Quality is measured on test records that no client holds. They are assumed to be public: a choice by quality"
    " reveals something about them that no epsilon here counts. If they are not public, protect them too.",
)
_SEEDED = (
    "The seeds.",
    "Whoever knows the seed of a run can recompute and subtract its noise. Before you release a model, run the chosen"
    " plan again without a seed.",
)


def _asked(outcome: SweepOutcome) -> Iterator[Html]:
    facts = [(axis.key, element("code", ", ".join(map(show, axis.values)))) for axis in outcome.request.axes]
    if outcome.request.selection is None:
        facts.append(("Seeds", Html(", ".join(map(str, range(1, outcome.request.seeds + 1))))))
    yield _table(facts)
    yield element("p", "The rest of the plan, without defaults:", class_="note")
    tables = outcome.request.tables.items()
    keys = [(f"{t}.{key}", element("code", show(value))) for t, table in tables for key, value in table.items()]
    yield _table(pair for pair in keys if pair[0] != "simulation.folder")  # a path on this machine


def _table(pairs: Iterable[tuple[str, str]]) -> Html:
    return element("table", element("tbody", join([rows(pairs)])))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
