"""The commands of docs/own-data.md run as they stand, on small files of the same form."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from bract.cli.main import run

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
NETWORK = """
from torch import nn


def build(shape, classes):
    return nn.Sequential(nn.Linear(shape[0], 8), nn.Tanh(), nn.Linear(8, classes))
"""
FEW = ["--set", "cohort.rounds=3"]


def commands() -> list[list[str]]:
    lines = [line.strip() for line in PAGE.read_text("utf-8").splitlines() if line.startswith("    bract ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def make_files(folder: Path) -> None:
    """Write what the page names: two tables, photos, arrays, a text, and a network."""
    from PIL import Image

    source = np.random.default_rng(3)
    ages, sexes = source.integers(20, 90, 200), source.integers(0, 2, 200)
    rows = [
        f"{'abcd'[row % 4]},{ages[row]},{'mf'[sexes[row]]},{'' if row == 5 else row % 50},{int(ages[row] > 50)}"
        for row in range(200)
    ]
    table = "hospital,age,sex,dose,ill\n" + "\n".join(rows)
    (folder / "people.csv").write_text(table)
    (folder / "new.csv").write_text(table)
    prices = "\n".join(f"{size},{source.integers(1, 9)},{size * 2.5 + 10}" for size in range(20, 120))
    (folder / "prices.csv").write_text(f"size,rooms,price\n{prices}")
    for number in range(60):
        place = folder / "photos" / "ab"[number % 2] / ("cat", "dog")[number // 2 % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.integers(0, 255, (16, 16), dtype=np.uint8)).save(place / f"{number}.png")
    windows = source.normal(0, 40, (120, 20, 3)).astype(np.float32)
    np.savez(folder / "windows.npz", x=windows, y=np.arange(120) % 3, client=np.arange(120) % 12)
    (folder / "poem.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    (folder / "my_net.py").write_text(NETWORK)


@pytest.mark.full
def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table for --public has no hole."""
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    asked = commands()
    assert len(asked) >= 12
    for words in asked:
        if "--public" in words:
            text = (tmp_path / "people.csv").read_text().replace("m,,", "m,1,").replace("f,,", "f,1,")
            (tmp_path / "people.csv").write_text(text)
        assert run([*words, *(FEW if words[0] == "simulate" else [])]) == 0, words


@pytest.mark.full
@pytest.mark.parametrize("data", ["photos", "windows.npz", "prices.csv"])
def test_each_plan_runs_as_it_is_written(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    assert run(["new", data, "-o", "plan.toml"]) == 0
    assert run(["simulate", "plan.toml", "--json", *FEW]) == 0
