"""Every `bract` command that the README shows, as it stands there but for a smaller number of rounds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bract.cli.main import run

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[list[str]]:
    lines = re.findall(r"^    (bract .*)$", README.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.e2e
def test_the_commands_of_the_readme_run(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_plan.rename(tmp_path / "PLAN.toml")
    shown = commands()
    assert len(shown) >= 5
    for words in shown:
        whole = "--resume" in words or words[0] == "ledger"
        short = [] if whole else ["--set", "cohort.rounds=1"]
        assert run([*words, *short]) == 0, (words, capsys.readouterr().err)


def test_every_file_that_the_documents_link_to_is_there() -> None:
    for document in [README, *README.parent.glob("*.md"), *README.parent.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
