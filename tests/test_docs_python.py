"""What README and the pages on Python and on the model show is run, as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.full
def test_the_python_of_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [readme] = blocks("README.md")
    known: dict[str, object] = {}
    first, *rest = blocks("docs/python.md")
    assert first == readme
    assert len([line for line in first.splitlines() if line]) == 5
    for block in (first, *rest[:-1]):
        exec(block, known)
    assert known["run"].score.value > 0.8  # pyright: ignore[reportAttributeAccessIssue]
    assert (tmp_path / "plots.html").exists()
    assert "settings=" not in rest[-1]
    exec(rest[-1].replace("callbacks=", 'settings={"cohort.rounds": 1}, callbacks='), known)


@pytest.mark.full
def test_the_commands_on_using_the_model_run(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the page, on runs with its names; what only another package can do is left to its own test."""
    monkeypatch.chdir(tmp_path)
    data = np.load(tmp_path / "tiny.npz")
    header = ",".join([*(f"p{k}" for k in range(144)), "label", "client"])
    table = np.column_stack([data["x"].reshape(60, -1), data["y"], data["client"]])
    for name in ("new.csv", "test.csv"):
        np.savetxt(tmp_path / name, table, delimiter=",", header=header, comments="", fmt="%g")
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "photos" / "one.png")
    for number in (1, 2):
        assert (
            run(["simulate", str(tiny_plan), "--seed", str(number), "--out", f"runs/mine-00{number}", "--quiet"]) == 0
        )
    (tmp_path / "poem.txt").write_text("the fox jumps over the dog\n" * 300)
    (tmp_path / "start.txt").write_text("the fox")
    assert run(["new", "poem.txt", "--epsilon", "50", "-o", "poem.toml"]) == 0
    assert run(["simulate", "poem.toml", "--set", "cohort.rounds=2", "--out", "runs/poem", "--quiet"]) == 0
    page = (ROOT / "docs" / "using-the-model.md").read_text()
    lines = [line.strip() for line in page.splitlines() if line.startswith("    bract ")]
    assert len(lines) > 10
    for number, line in enumerate(lines):
        words = shlex.split(line, comments=True)[1:]
        if "--onnx" in words or "tensorboard" in words:
            continue
        if "PLAN.toml" in words:
            words = [str(tiny_plan) if word == "PLAN.toml" else word for word in words] + [
                "--out",
                f"runs/out-{number}",
            ]
        assert run(words) == 0, line
