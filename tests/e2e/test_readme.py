"""Every `bract` command that the README shows, as it stands there but for a smaller number of rounds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[list[str]]:
    lines = re.findall(r"^    (bract .*)$", README.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def write_patients(folder: Path) -> None:
    """Write `patients.csv` of four hospitals, `test.csv` like it, and `new.csv` without labels."""
    numbers = np.random.default_rng(1)
    features = numbers.normal(size=(400, 5)).round(3)
    labels = (features.sum(axis=1) > 0).astype(int)
    head, names = "age,weight,pulse,sugar,iron", ("north", "south", "east", "west")
    lines = [",".join(map(str, record)) for record in features]
    whole = [f"{line},{names[at % 4]},{labels[at]}" for at, line in enumerate(lines)]
    for file, first, rest in (
        ("patients.csv", f"{head},hospital,label", whole),
        ("test.csv", f"{head},hospital,label", whole[:40]),
        ("new.csv", head, lines[:40]),
    ):
        (folder / file).write_text("\n".join([first, *rest]) + "\n")


@pytest.mark.e2e
def test_the_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`PLAN.toml` is what `bract new` writes."""
    monkeypatch.chdir(tmp_path)
    write_patients(tmp_path)
    shown = commands()
    assert len(shown) >= 12
    for words in shown:
        trains = words[0] in {"simulate", "budget", "sweep"} and "--resume" not in words
        short = ["--set", "cohort.rounds=2"] if trains else []
        assert run([*words, *short]) == 0, (words, capsys.readouterr().err)
        if words[0] == "new":
            (tmp_path / "PLAN.toml").write_text((tmp_path / "patients.toml").read_text())


def test_every_file_that_the_documents_link_to_is_there() -> None:
    for document in [README, *README.parent.glob("*.md"), *README.parent.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
