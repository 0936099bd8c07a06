"""Run one test in a process of its own, with or without a sabotage.

A server process loads the libraries once and forks for each test. It loads no module of bract, so that a sabotage is
the first to import what it breaks.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from . import SABOTAGES

TESTS = Path(__file__).parents[1]
LIBRARIES = ["torch", "opacus", "flwr.app", "flwr.clientapp", "flwr.serverapp", "scipy.stats", "pydantic"]


def _run(test: str, sabotage: str | None, output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(TESTS.parent)
    if sabotage:
        SABOTAGES[sabotage].breaks()
    sys.exit(pytest.main(["-x", "-p", "no:cacheprovider", str(TESTS / test)]))


def run(test: str, sabotage: str | None, folder: Path) -> str:
    """Return what pytest prints about the test, below tests/, while the sabotage of this name is at work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    output = folder / "output"
    process = context.Process(target=_run, args=(test, sabotage, output))
    process.start()
    process.join()
    return output.read_text()
