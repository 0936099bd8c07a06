"""`bract terms`: safe terms for an owner to start from, and whether a plan fits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.cli.main import run
from bract.client.terms import Terms, read_terms

Capture = pytest.CaptureFixture[str]


def test_init_writes_terms_that_can_be_read_and_trust_nobody(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "terms.toml"
    assert run(["terms", "init", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    terms = read_terms(path)
    assert not terms.trusted_server
    assert not terms.clear_updates
    assert terms.malicious_server
    assert (terms.max_epsilon, terms.max_delta) == (8.0, 1e-4)
    assert (terms.max_refused_runs_a_day, terms.max_plans_a_day, terms.min_round_epsilon) == (3, 10, 1e-3)


def test_init_names_every_key_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    run(["terms", "init", str(path)])
    named = {line.removeprefix("# ").split(" = ")[0] for line in path.read_text().splitlines() if " = " in line}
    assert named == set(Terms.model_fields)


def test_init_writes_to_the_folder_where_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["terms", "init"]) == 0
    assert read_terms(tmp_path / "terms.toml")


def test_terms_that_are_no_text_are_not_to_be_written_over(tmp_path: Path, capsys: Capture) -> None:
    """`terms init` refuses a file that is there, so the hint names another."""
    path = tmp_path / "terms.toml"
    path.write_bytes(b"\xff\xfe")
    assert run(["terms", "check", str(path), str(path)]) == 2
    said = capsys.readouterr().err
    assert "bract terms init NEW.toml" in said
    assert f"init {path}" not in said
    assert run(["terms", "check", str(tmp_path / "none.toml"), str(path)]) == 2
    assert f"bract terms init {tmp_path / 'none.toml'}" in capsys.readouterr().err


@pytest.mark.parametrize("there", ["file", "link"])
def test_init_overwrites_nothing(tmp_path: Path, capsys: Capture, there: str) -> None:
    path = tmp_path / "terms.toml"
    path.write_text("max_epsilon = 1.0\n") if there == "file" else path.symlink_to(tmp_path / "nowhere")
    assert run(["terms", "init", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert there == "link" or path.read_text() == "max_epsilon = 1.0\n"
    assert not (tmp_path / "nowhere").exists()


def test_init_says_where_it_cannot_write(tmp_path: Path, capsys: Capture) -> None:
    assert run(["terms", "init", str(tmp_path / "no" / "terms.toml")]) == 5
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_check_says_whether_a_plan_is_taken_part_in_and_why_not(tmp_path: Path, capsys: Capture) -> None:
    terms, plan = tmp_path / "terms.toml", tmp_path / "plan.toml"
    run(["terms", "init", str(terms)])
    good = '[aggregation]\nprotocol = "secagg"\nmode = "malicious-server"\n[privacy]\nnoise = "distributed"\n'
    plan.write_text(good + "[cohort]\nminimum = 5\n")
    capsys.readouterr()
    assert run(["terms", "check", str(terms), str(plan)]) == 0
    assert "accepts" in capsys.readouterr().out
    plan.write_text("[privacy]\nepsilon = 8.0\n")
    assert run(["terms", "check", str(terms), str(plan)]) == 2
    said = capsys.readouterr().err
    assert "refuses" in said
    assert len(said.splitlines()) == 2
    assert run(["terms", "check", str(terms), str(tmp_path / "none.toml")]) == 2
