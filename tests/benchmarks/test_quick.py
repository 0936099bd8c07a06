"""Every benchmark still runs: each at a tiny size, with all its bars measured and none judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bract.simulations.datasets.shipped.fashion_mnist import DEBIAN

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = {path.stem: path for path in sorted(BENCHMARKS.glob("[a-z]*.py"))}
OF_FASHION = {"models", "utility"}
WITHOUT_BARS = {"accuracy_by_epsilon", "models"}
"""Those that make a table, and are held to no limit."""


@pytest.mark.full
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_at_a_tiny_size(name: str, tmp_path: Path) -> None:
    if name in OF_FASHION and not DEBIAN.is_dir():
        pytest.skip("Fashion-MNIST is not installed")
    command = [sys.executable, SCRIPTS[name], "--quick", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["rows"]
    assert all(bar["name"] and "limit" not in bar for bar in said["bars"])
    assert bool(said["bars"]) != (name in WITHOUT_BARS)
