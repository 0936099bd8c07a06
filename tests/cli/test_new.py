"""`bract new` writes a plan that `bract simulate` runs as it is."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the current one, with a table of 4 hospitals: ages, a word, a hole, and who is ill."""
    monkeypatch.chdir(tmp_path)
    source = np.random.default_rng(5)
    age = source.integers(20, 90, 240)
    ill = (age + source.normal(0, 6, 240) > 55).astype(int)
    rows = [
        f"{'abcd'[row % 4]},{'' if row == 9 else age[row]},{'mf'[row % 2]},{('well', 'ill')[ill[row]]}"
        for row in range(240)
    ]
    (tmp_path / "people.csv").write_text("hospital,age,sex,diagnosis\n" + "\n".join(rows))
    return tmp_path


def test_its_plan_runs_unedited_and_learns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "people.csv"]) == 0
    assert "bract simulate people.toml" in capsys.readouterr().out
    assert run(["simulate", "people.toml", "--json", "--seed", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clients"] == 4
    assert result["accuracy"] > 0.75


def test_its_plan_says_what_was_noticed(folder: Path) -> None:
    assert run(["new", "people.csv", "-o", "plan.toml"]) == 0
    text = (folder / "plan.toml").read_text()
    assert "the label is the last column, 'diagnosis'" in text
    assert "'age' misses 1 of 240 values" in text
    assert "not public" in text
    assert tomllib.loads(text)["data"]["labels"] == ["ill", "well"]


def test_a_distributed_plan_trusts_no_server(folder: Path) -> None:
    assert run(["new", "people.csv", "--noise", "distributed"]) == 0
    tables = tomllib.loads((folder / "people.toml").read_text())
    assert tables["privacy"]["noise"] == "distributed"
    assert tables["aggregation"]["protocol"] == "secagg"


def test_an_existing_file_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "people.toml").write_text("mine")
    assert run(["new", "people.csv"]) == 2
    assert capsys.readouterr().err.startswith("error: people.toml is there already\nhint: ")
    assert (folder / "people.toml").read_text() == "mine"


@pytest.mark.parametrize("asked", [["nothing.csv"], ["people.csv", "--label", "x"], ["people.csv", "--client", "x"]])
def test_what_is_not_there_writes_nothing(asked: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", *asked]) != 0
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert [path.name for path in folder.iterdir()] == ["people.csv"]


def test_a_plan_elsewhere_finds_its_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "plans").mkdir()
    assert run(["new", "people.csv", "-o", "plans/mine.toml"]) == 0
    assert tomllib.loads((folder / "plans" / "mine.toml").read_text())["data"]["path"] == "../people.csv"
    assert run(["simulate", "plans/mine.toml", "--json", "--set", "cohort.rounds=1"]) == 0


@pytest.mark.full
def test_a_text_of_ones_own_is_two_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "poem.txt").write_text("to be or not to be, that is the question\n" * 800)
    assert run(["new", "poem.txt"]) == 0
    capsys.readouterr()
    assert run(["simulate", "poem.toml", "--json", "--set", "cohort.rounds=30"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.15


def test_columns_in_another_order_predict_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan names the features in order, so a file to predict may order them otherwise, or hold more columns."""
    assert run(["new", "people.csv"]) == 0
    assert run(["simulate", "people.toml", "--seed", "1", "--out", "one", "--set", "cohort.rounds=2"]) == 0
    (folder / "same.csv").write_text("age,sex\n30,m\n80,f\n")
    (folder / "turned.csv").write_text("shoe,sex,age\n41,m,30\n37,f,80\n")
    capsys.readouterr()
    assert run(["predict", "one", "same.csv"]) == 0
    said = capsys.readouterr().out
    assert run(["predict", "one", "turned.csv"]) == 0
    assert capsys.readouterr().out == said


def test_any_number_of_records_has_a_delta_below_1_over_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,250 records are where a delta for half the training records is too large for all of them."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{row % 97 / 10},{row % 2}" for row in range(1250)]
    (tmp_path / "some.csv").write_text("a,label\n" + "\n".join(rows))
    assert run(["new", "some.csv"]) == 0
    assert tomllib.loads((tmp_path / "some.toml").read_text())["privacy"]["delta"] == 1e-4
