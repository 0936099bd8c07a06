"""The README's figures, by the README's commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bract.simulations.datasets.shipped.fashion_mnist import DEBIAN

needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="apt install dataset-fashion-mnist")
BRACT = [sys.executable, "-c", "from bract.cli.main import main; main()"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("plan", "least", "epsilon", "clients", "records"),
    [
        ("digits-scattering-eps8", 0.93, 8.0, 11, 1415),
        pytest.param("digits-distributed-eps8", 0.82, 8.0, 11, 1415, marks=pytest.mark.full),
        pytest.param("fashion-scattering-eps3", 0.89, 3.0, 100, 60_000, marks=[needs_debian, pytest.mark.full]),
    ],
)
def test_a_shipped_plan_reaches_its_figure(
    plan: str, least: float, epsilon: float, clients: int, records: int, tmp_path: Path
) -> None:
    """Seeds differ by 2 points or so on the 382 test records of `digits`; the README has three of them."""
    masks = ["--set", f"simulation.masks={str(clients < 20).lower()}"]  # they change no sum, and take their time
    command = [*BRACT, "simulate", plan, "--seed", "1", "--json", "--out", str(tmp_path / "run"), *masks]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] >= least
    assert 0.8 * epsilon < result["epsilon"]["server"] <= epsilon  # all have come: more noise than was planned
    assert result["epsilon"]["released"] == result["epsilon"]["server"]
    assert (result["clients"], result["records"]) == (clients, records)
