"""The plots of the budget page: what they draw is what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.privacy import read_tables
from bract.simulations.budget.answer import Question, answer, read_budget_plan
from bract.simulations.report.budget_figures import charged_over_rounds


@pytest.mark.parametrize("noise", ["central", "local"])
def test_the_charged_figure_lies_on_the_curve_over_rounds(noise: str, tiny_plan: Path) -> None:
    tables = read_tables(tiny_plan)
    tables["privacy"]["noise"] = noise
    found = answer("tiny", read_budget_plan(tables, "tiny"), Question())
    [own] = [point for point in charged_over_rounds(found) if point.at == found.plan.cohort.rounds]
    assert own.epsilons == found.own.cost
    bounds = {point.at: point.epsilons.released for point in found.rounds}
    assert all(point.epsilons.released <= bounds[point.at] for point in charged_over_rounds(found))
