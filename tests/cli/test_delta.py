"""A delta with which one unit could be published: every verb refuses it, or says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.cli.main import run

from .conftest import Refused


@pytest.mark.parametrize("verb", ["budget", "simulate", "partition"])
def test_a_plan_whose_delta_gives_one_record_away_is_refused(
    verb: str, tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    out = [] if verb == "budget" else ["--out", tmp_path / "out"]
    said = refused(verb, tiny_plan, *out, "--set", "data.records=1000")
    assert "privacy.delta 0.001 is 1/n or more, n = 1,000 records (data.records)" in said
    assert "privacy.allow_large_delta = true" in said


def test_a_sweep_names_the_points_whose_delta_is_too_large(tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    grid = ["--set", "data.records=1000", "--over", "privacy.delta=1e-3,1e-4", "--out", tmp_path / "out"]
    said = refused("sweep", tiny_plan, *grid)
    assert "1 of 2 points of the grid refused" in said
    assert "(at privacy.delta=0.001)" in said


def test_a_budget_says_what_an_allowed_large_delta_means(tiny_plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = ["--set", "data.records=1000", "--set", "privacy.allow_large_delta=true"]
    assert run(["budget", str(tiny_plan), *large]) == 0
    assert "0.001 is 1/n or more for n records" in " ".join(capsys.readouterr().out.split())
    assert run(["budget", str(tiny_plan)]) == 0
    assert "1/n or more for n" not in capsys.readouterr().out
