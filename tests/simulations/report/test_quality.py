"""What the report says of a model's quality, whatever it learns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bract.server.round_log import RoundRecord
from bract.server.state import ServerState
from bract.server.training import Outcome
from bract.simulations.report.run_report import write_report
from bract.simulations.study import make_study

Figures = dict[str, float]
EPSILON = {"server": None, "released": 1.0}


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., str]:
    """A function: the page of a run with these figures, round by round, and this last loss."""

    def page(*rounds: Figures | None, loss: float | None = 0.125) -> str:
        study, none = make_study({"privacy": {"noise_multiplier": 1.0, "epsilon": 1e4}}), np.zeros(3, np.float32)
        records = tuple(
            RoundRecord(n, loss, found, EPSILON, 4, 4, {"ok": 4}, 1.0) for n, found in enumerate(rounds, 1)
        )
        state = ServerState(len(rounds), none, none, {}, "ab" * 32, study.digest)
        write_report(tmp_path / "report.html", study, Outcome(state, records, EPSILON), 99)
        return (tmp_path / "report.html").read_text("utf-8")

    return page


def plot(page: str) -> tuple[str, str]:
    """The name of the figure that is plotted, and its plot."""
    found = re.search('aria-label="Line plot of (.*?) over the rounds.*?</svg>', page, re.DOTALL)
    assert found
    return found[1], found[0]


def ticks(drawn: str) -> list[str]:
    """The labels of the vertical axis, from the bottom."""
    return [text.replace(chr(0x2212), "-") for text in re.findall(r">([^<>]*)</text>", drawn)]


@pytest.mark.parametrize(
    ("rounds", "name", "shown", "axis"),
    [
        (({"accuracy": 0.2, "f1": 0.1}, {"accuracy": 0.5, "f1": 0.4}), "accuracy", "50.0%", ["0%", "100%"]),
        (({"r2": -90.0, "rmse": 9.0}, {"r2": 0.5, "rmse": 1.0}), "R2", "0.5", ["-1.00", "1.00"]),
        (({"mse": 4.0, "psnr": 2.0}, {"mse": 0.25, "psnr": 3.0}), "reconstruction error", "0.25", ["0", "4"]),
    ],
)
def test_the_score_is_the_headline_and_its_axis_has_its_range(
    rounds: tuple[Figures, ...], name: str, shown: str, axis: list[str], report: Callable[..., str]
) -> None:
    page = report(*rounds)
    title = name[0].upper() + name[1:]
    assert f'<dt>{title} on test records that no client holds</dt><dd class="figure">{shown}</dd>' in page
    named, drawn = plot(page)
    assert named == name
    assert {name, *axis} <= set(ticks(drawn))
    assert ("%" in drawn) == (name == "accuracy")


def test_every_figure_of_the_last_test_is_in_the_table(report: Callable[..., str]) -> None:
    page = report({"accuracy": 0.25, "f1": 0.125}, {"accuracy": 0.5, "f1": 0.375, "roc_auc": 0.75}, None)
    table = page.partition(">Quality<")[2].partition("</table>")[0]
    cells = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", table)
    assert cells[:3] == [("Accuracy", "50.0%"), ("F1", "37.5%"), ("ROC-AUC", "0.75")]
    assert cells[3][1] == "0.125"


def test_a_model_that_diverged_is_said_to_have_no_finite_loss(report: Callable[..., str]) -> None:
    assert "<td>not finite</td>" in report({"accuracy": 0.1}, loss=None)
    rebuilding = report({"mse": 0.1}, {}, loss=None)
    assert '<dt>Quality on test records that no client holds</dt><dd class="words">not finite</dd>' in rebuilding
