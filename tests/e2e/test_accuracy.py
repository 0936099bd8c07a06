"""The README's figures, by the README's commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bract.simulations.datasets.fashion_mnist import DEBIAN

needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="apt install dataset-fashion-mnist")
BRACT = [sys.executable, "-c", "from bract.cli.main import main; main()"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("plan", "least", "epsilon", "clients", "records"),
    [
        ("digits-central-eps8", 0.85, 8.0, 11, 1415),
        pytest.param("fashion-central-eps3", 0.80, 3.0, 100, 60_000, marks=needs_debian),
    ],
)
def test_a_shipped_plan_reaches_its_figure(
    plan: str, least: float, epsilon: float, clients: int, records: int, tmp_path: Path
) -> None:
    command = [*BRACT, "simulate", plan, "--seed", "1", "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] >= least
    assert result["epsilon"]["server"] is None
    assert 0.99 * epsilon < result["epsilon"]["released"] <= epsilon
    assert (result["clients"], result["records"]) == (clients, records)
