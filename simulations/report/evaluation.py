"""The page of `bract evaluate`, and the sections on classes and clients that a run's report shares with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from ...privacy.storage import write_new
from ...server.evaluation.metrics import FIGURES
from .page import Html, element, page, rows, section
from .run_figures import ACCENT, HEIGHT, INK, captioned, svg

if TYPE_CHECKING:
    from ..trained.evaluate import Evaluation

STYLE = Html("""<style>
.wide { overflow-x: auto; margin-bottom: 1.5rem; }
.wide table { width: auto; min-width: 50%; }
.wide th, .wide td { width: auto; padding: .3rem .8rem; text-align: right; white-space: nowrap; }
.wide thead th { border-bottom-color: var(--quiet); }
.wide th:first-child { text-align: left; padding-left: 0; }
</style>""")

MOST_CLASSES = 40
"""The most classes that the table of confused classes shows."""


def write_evaluation(path: Path, found: Evaluation, title: str, records: str) -> None:
    """Write the page of an evaluation to a new file.

    Raises:
        FileExistsError: the file exists.
        StorageError: the file cannot be written.
    """
    parts = [
        STYLE,
        element(
            "header",
            element("p", "Evaluation", class_="kind"),
            element("h1", title),
            element("p", f"{found.records:,} records of {records}, {made()}.", class_="lead"),
        ),
        section("Quality", element("table", element("tbody", rows(_figures(found))))),
        *sections(found),
    ]
    write_new(path, page(f"Evaluation: {title}", parts).encode("utf-8", "backslashreplace"))


def made() -> str:
    """Return today's date and bract's version as a phrase."""
    return f"{datetime.now(UTC):%Y-%m-%d} with bract {import_module('bract').__version__}"


def sections(found: Evaluation) -> Iterator[Html]:
    """Yield the sections on classes, confused classes, calibration and clients, as far as they were measured."""
    if found.classes:
        head = ("class", "records", "precision", "recall", "F1")
        body = [(c.name, f"{c.records:,}", *map(_share, (c.precision, c.recall, c.f1))) for c in found.classes]
        yield section("By class", STYLE, table(head, body))
    if found.confusion and len(found.classes) <= MOST_CLASSES:
        text = "Each line is a class, each column what the model predicts; the diagonal is right."
        yield section("Confused classes", element("p", text, class_="note"), _confusion(found))
    if found.calibration and found.calibration_error is not None:
        text = f"A confidence is {found.calibration_error:.3f} from the share that is right, on average over records."
        yield section("Calibration", captioned(text, _calibration_plot(found)))
    if found.clients and found.score:
        show = found.score.figure.show
        body = [(c.name, f"{c.records:,}", "-" if c.value is None else show(c.value)) for c in found.clients]
        yield section("By client", table(("client", "records", found.score.figure.name), body))


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> Html:
    """Return a table that scrolls sideways on a narrow screen; the first cell of a row names it."""
    top = element("thead", element("tr", *(element("th", name, scope="col") for name in head)))
    lines = (element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:])) for row in body)
    return element("div", element("table", top, element("tbody", *lines)), class_="wide")


def _figures(found: Evaluation) -> Iterator[tuple[str, str]]:
    for key, value in found.figures.items():
        yield FIGURES[key].title, FIGURES[key].show(value)
    yield "Loss, mean over the records", "not finite" if found.loss is None else f"{found.loss:.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _confusion(found: Evaluation) -> Html:
    names = [one.name for one in found.classes]
    top = element(
        "thead", element("tr", element("th", "", scope="col"), *(element("th", n, scope="col") for n in names))
    )
    lines = (
        element("tr", element("th", name, scope="row"), *(_cell(count, max(1, sum(row))) for count in row))
        for name, row in zip(names, found.confusion, strict=True)
    )
    return element("div", element("table", top, element("tbody", *lines)), class_="wide")


def _cell(count: int, total: int) -> Html:
    shade = f"background: color-mix(in srgb, var(--accent) {round(60 * count / total)}%, transparent)"
    return element("td", f"{count:,}", style=shade)


def _calibration_plot(found: Evaluation) -> Html:
    """Return confidence against accuracy, beside the diagonal on which the two agree."""
    filled = [b for b in found.calibration if b.confidence is not None and b.accuracy is not None]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        axes.plot([b.confidence for b in filled], [b.accuracy for b in filled], color=ACCENT, marker="o")  # pyright: ignore[reportArgumentType]
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        axes.grid(axis="y")

    return svg(draw, HEIGHT, "Line plot of the share that is right against the model's confidence")
