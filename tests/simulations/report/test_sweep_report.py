"""The report of a sweep: one file that needs nothing else, and says what was found and what it costs."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bract.privacy import StorageError
from bract.simulations.report.sweep_report import write_report
from bract.simulations.study import Study, make_study
from bract.simulations.sweep.axes import Axis
from bract.simulations.sweep.cost import TRUSTED, WATCHING, Cost
from bract.simulations.sweep.outcome import SweepOutcome, make_points
from bract.simulations.sweep.request import Selection, SweepRequest
from bract.simulations.sweep.results import Record

VOID = {"meta", "br", "link", "img", "input", "hr"}
COST = Cost(
    6, 3, "record", 1e-4, {"server": None, "released": 9.5}, {"server": None, "released": 5.25}, {"server": TRUSTED}
)
AXES = (Axis("privacy.epsilon", (1, 2, 4)), Axis("training.learning_rate", (0.5, 2)))


class Page(HTMLParser):
    """The elements of a page, its text, and whether all that opens is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.open, self.words = source, [], []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.words.append(data)


def studies_of() -> list[Study]:
    return [make_study({"privacy": {"noise": "central", "noise_multiplier": 1.0, "epsilon": 1e4}})]


def record_at(run: int, epsilon: float | None, rate: float, accuracy: float, seed: int = 1) -> Record:
    values = {"privacy.epsilon": epsilon, "training.learning_rate": rate}
    return Record(
        run,
        seed,
        values,
        f"out/run-{run:03d}",
        0.5,
        {"accuracy": accuracy},
        {"server": None, "released": epsilon},
        1e-4,
    )


RECORDS = (
    record_at(1, 1.0, 0.5, 0.50),
    record_at(2, 1.0, 0.5, 0.60, seed=2),
    record_at(3, 2.0, 0.5, 0.40),
    record_at(4, 4.0, 2, 0.80),
    record_at(5, 4.0, 2, 0.90, seed=2),
)
BROKEN = Record(
    6, 3, {"privacy.epsilon": 2, "training.learning_rate": 2}, "out/run-006", error="it <broke>", hint="mend"
)


def page_of(path: Path, records: tuple[Record, ...] = RECORDS, cost: Cost = COST, **asked: object) -> Page:
    tables = {"data": {"path": "</td><script>alert(1)</script>"}}
    request = replace(SweepRequest("tiny", tables, AXES, 2), **asked)
    write_report(
        path / "report.html",
        SweepOutcome(request, Path("out"), records, make_points(records), cost, 9.0),
        studies_of(),
    )
    return Page((path / "report.html").read_text("utf-8"))


def test_the_page_is_one_file_that_fetches_and_runs_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert not page.open
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object"}
    assert all(not name.startswith("on") and name not in ("src", "srcset") for _, a in page.elements for name in a)
    assert all(a[name].startswith("#") for _, a in page.elements for name in ("href", "xlink:href") if a.get(name))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_text_of_the_plan_and_of_faults_is_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path, (*RECORDS, BROKEN))
    assert "<script>alert(1)</script>" in page.text
    assert "it <broke>. What to do: mend." in page.text


def test_the_headline_gives_the_best_and_the_whole_search(tmp_path: Path) -> None:
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", page_of(tmp_path).source)
    assert [value for _, value in found] == ["85.0%", f"none: {TRUSTED}", "4.000", f"none: {TRUSTED}", "9.500"]


def test_every_point_is_in_the_table_with_its_marks(tmp_path: Path) -> None:
    """The best and the front are marked."""
    source = page_of(tmp_path).source
    rows = re.findall(r'<tr class="([^"]*)">(.*?)</tr>', source)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for _, row in rows]
    assert [marks for marks, _ in rows] == ["front", "", "best front"]
    assert cells[0] == ["1.0", "0.5", "55.0%", "50.0%", "60.0%", "0.500", "none", "1.000", "2"]
    assert [row[2] for row in cells] == ["55.0%", "40.0%", "85.0%"]


def test_the_plot_has_the_front_its_band_and_the_beaten(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    [plot] = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    assert "From 55.0% at epsilon 1 to 85.0% at epsilon 4" in page.text
    assert re.search(r"fill: var\(--accent\)[^>]*opacity: 0.18", plot)
    assert plot.count("front") >= 1
    assert "beaten" in page.text
    assert not re.search(r"(fill|stroke): #", plot)
    lonely = page_of(tmp_path, RECORDS[:1])
    assert "At best 50.0% at epsilon 1" in lonely.text
    assert "beaten" not in lonely.text


def test_points_without_an_epsilon_are_a_line_to_compare_with(tmp_path: Path) -> None:
    page = page_of(tmp_path, (*RECORDS, record_at(7, None, 2, 0.95)))
    assert "without an epsilon" in page.text
    assert "nothing to plot" in page_of(tmp_path, (record_at(7, None, 2, 0.95),)).text


def test_another_figure_than_accuracy_is_named_as_it_is(tmp_path: Path) -> None:
    """And written as it is."""
    errors = (0.5, 0.75, 0.25, 0.125, 0.375)
    rebuilding = [replace(r, figures={"mse": e}) for r, e in zip(RECORDS, errors, strict=True)]
    page = page_of(tmp_path, tuple(rebuilding))
    for words in (
        "Best reconstruction error, mean",
        "Reconstruction error against",
        "From 0.625 at epsilon 1 to 0.25",
    ):
        assert words in page.text
    assert "%" not in page.text
    assert "accuracy" not in page.text.lower()


def test_the_cost_of_the_search_is_told_with_and_without_seeds(tmp_path: Path) -> None:
    text = page_of(tmp_path).text
    assert (
        "All 6 runs, against someone who sees only the released models epsilon 9.500 for each record at delta 0.0001"
        in text
    )
    assert "One run per point, against someone who sees only the released models epsilon 5.250" in text
    assert f"All 6 runs, against the server none: {TRUSTED}" in text


def test_failures_and_seeds_are_said_aloud(tmp_path: Path) -> None:
    page = page_of(tmp_path, (*RECORDS, BROKEN))
    assert "1 run failed:" in page.text
    assert "privacy.epsilon=2, training.learning_rate=2 with seed 3" in page.text
    assert "failed" not in page_of(tmp_path).text
    for words in ("For study, not for release:", "Selection bias.", "The test records."):
        assert words in page.text


def test_a_sweep_in_which_nothing_finished_has_a_report(tmp_path: Path) -> None:
    page = page_of(tmp_path, (BROKEN,))
    assert "not measured" in page.text
    assert "nothing to plot" in page.text
    assert "No run was finished and measured." in page.text


def test_the_report_of_private_selection_shows_the_outcome_alone(tmp_path: Path) -> None:
    cost = replace(COST, runs=0, reasons={"server": WATCHING})
    selection = Selection("geometric", 3.0, ((0, 1), (0, 11), (2, 111)))
    page = page_of(tmp_path, RECORDS[3:4], cost, seeds=1, selection=selection)
    assert "The outcome Accuracy" not in page.text
    assert "80.0%" in page.text
    assert "3 tries expected, geometric law" in page.text
    assert "Papernot, Steinke 2022" in page.text
    assert "The outcome, against someone who sees only the released models epsilon 9.500" in page.text
    assert WATCHING in page.text
    assert "All points" not in page.text
    assert "They are assumed to be public" in page.text
    nothing = page_of(tmp_path, (), cost, seeds=1, selection=selection)
    assert "the drawn number of tries is zero" in nothing.text


def test_the_same_outcome_gives_the_same_bytes(tmp_path: Path) -> None:
    first = page_of(tmp_path).source
    assert page_of(tmp_path).source == first


def test_a_large_grid_stays_readable(tmp_path: Path) -> None:
    many = tuple(record_at(n, 1 + n / 7, n, 0.5 + n / 1000) for n in range(200))
    page = page_of(tmp_path, many)
    assert len(page.source) < 500_000
    [plot] = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    assert len(re.findall(r"<text", plot)) < 70


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        page_of(tmp_path / "missing")


def test_a_search_over_private_data_is_not_called_free() -> None:
    """A simulation may be over data that are as real as any."""
    from bract.simulations.report import sweep_report as report

    assert "simulation like this one" not in report._EVERY_RUN
    assert "Only a search on public data costs nothing" in report._EVERY_RUN
