"""Whole small trainings with noise that later rounds take back: in the clear, under masks, cut off and killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import override, read_tables
from bract.privacy.mechanisms.factorisation import relative_error
from bract.server.state import ServerState, read_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study

HOW = [
    *("privacy.unit=client", "privacy.noise=central", "privacy.sampling_rate=1", "privacy.bands=2"),
    *("training.local_steps=2", "cohort.size=2", "cohort.rounds=6"),
]


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(override(read_tables(plan), [*HOW, *settings]))


def trained(study: Study, folder: Path) -> ServerState:
    assert simulate(study, folder).rounds == study.cohort.rounds
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    assert state.noise is not None
    return state


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()[1:]]


def test_masked_and_clear_trainings_give_the_same_model(tiny_plan: Path, tmp_path: Path) -> None:
    """Both keep clients apart as the bands ask."""
    states = {}
    for protocol in ("sum", "secagg"):
        folder = tmp_path / protocol
        states[protocol] = trained(study_of(tiny_plan, f"aggregation.protocol={protocol}"), folder)
        cohorts = [set(entry["clients"]) for entry in entries(folder)]
        assert [len(cohort) for cohort in cohorts] == [2] * 6
        assert not any(one & other for one, other in pairwise(cohorts))
    assert states["sum"].parameters.tobytes() == states["secagg"].parameters.tobytes()


def test_bands_cost_the_same_and_the_run_says_what_noise_stays(tiny_plan: Path, tmp_path: Path) -> None:
    """The run spends what it would without bands, and says how much noise is left."""
    results = {
        bands: simulate(study_of(tiny_plan, f"privacy.bands={bands}"), tmp_path / str(bands)) for bands in (1, 2)
    }
    assert results[1].epsilon == results[2].epsilon
    assert 7.9 < results[2].epsilon["released"] <= 8
    pages = {bands: re.sub(r"\s+", " ", (tmp_path / str(bands) / "report.html").read_text()) for bands in (1, 2)}
    assert "Correlation of the noise" not in pages[1]
    assert "2 bands: each round subtracts part of the noise of the previous 1 round" in pages[2]
    assert f"The model carries {relative_error(6, 2):.0%} of the noise" in pages[2]


class Cut(Exception):
    pass


class Cutting:
    def started(self, state: ServerState, ledger: object) -> None: ...

    def answered(self) -> None: ...

    def finished_round(self, record: Any) -> None:
        if record.round == 3:
            raise Cut


@pytest.mark.parametrize("protocol", ["sum", "secagg"])
def test_a_cut_off_run_goes_on_to_the_same_model_byte_for_byte(
    tiny_plan: Path, tmp_path: Path, protocol: str
) -> None:
    study = study_of(tiny_plan, f"aggregation.protocol={protocol}", "server.momentum=0.5")
    whole = trained(study, tmp_path / "whole")
    with pytest.raises(Cut):
        simulate(study, tmp_path / "cut", Cutting())
    resumed = trained(study, tmp_path / "cut")
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert resumed.noise is not None
    assert whole.noise is not None
    assert [v.tobytes() for v in resumed.noise.past] == [v.tobytes() for v in whole.noise.past]
    assert [e["clients"] for e in entries(tmp_path / "cut")] == [e["clients"] for e in entries(tmp_path / "whole")]


KILLED = """
import os, signal, sys
from pathlib import Path
from bract.privacy import read_tables, override
from bract.server import rounds
from bract.simulations.run import simulate
from bract.simulations.study import make_study

plan, folder, *settings = sys.argv[1:]
step = rounds.step
calls = []

def deadly(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

rounds.step = deadly
simulate(make_study(override(read_tables(Path(plan)), settings)), Path(folder))
"""


def test_a_run_killed_after_a_charge_starts_its_noise_afresh(tiny_plan: Path, tmp_path: Path) -> None:
    """By SIGKILL, in round 3, without a seed: its release may have been seen."""
    tiny_plan.write_text(tiny_plan.read_text().replace("seed = 7", ""))
    settings = ["cohort.rounds=4", "cohort.minimum=1"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_plan), str(tmp_path / "run"), *HOW, *settings], timeout=300
    )
    assert done.returncode == -signal.SIGKILL
    assert [entry["round"] for entry in entries(tmp_path / "run")] == [1, 2, 3]
    before, head = read_checkpoint(tmp_path / "run" / "checkpoint.bract"), entries(tmp_path / "run")[-1]["hash"]
    assert before is not None
    assert before.round == 2
    after = trained(study_of(tiny_plan, *settings), tmp_path / "run")
    assert [entry["round"] for entry in entries(tmp_path / "run")] == [1, 2, 3, 3, 4]
    assert after.block == head != before.block
