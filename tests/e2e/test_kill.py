"""Kill -9 at random moments: the resumed run ends where the uninterrupted one does, and never forgets a charge."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 20
BRACT = [sys.executable, "-c", "from bract.cli.main import main; main()"]


def arguments(plan: Path) -> list[str]:
    return [str(plan), "--set", "cohort.rounds=40", "--json"]


def rounds_on_disk(folder: Path) -> tuple[int, int]:
    """How many rounds were released (a metrics line was written) and how many were charged."""
    charged = {json.loads(line)["round"] for line in complete_lines(folder / "ledger.jsonl")[1:]}
    return len(complete_lines(folder / "metrics.jsonl")), len(charged)


def complete_lines(path: Path) -> list[str]:
    return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []


def start_and_kill(command: list[str], folder: Path, moment: float) -> bool:
    """Start the run, kill it `moment` seconds after its ledger is there; return whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (folder / "ledger.jsonl").exists():
        time.sleep(0.01)
    if "--resume" in command:  # the ledger is there from before: wait until the process has it locked
        while process.poll() is None and not holds(process.pid, folder / "ledger.jsonl"):
            time.sleep(0.01)
    time.sleep(moment)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert alive or process.returncode == 0, said.decode()
    return alive


def holds(pid: int, path: Path) -> bool:
    try:
        return any(link.resolve() == path.resolve() for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.full
@pytest.mark.e2e
@pytest.mark.parametrize("noise", ["central", "local"])
def test_a_run_killed_twenty_times_ends_like_one_that_was_not(noise: str, tiny_plan: Path, tmp_path: Path) -> None:
    dice = random.Random(20)
    cell = ["--set", f"privacy.noise={noise}"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(
        [*BRACT, "simulate", *arguments(tiny_plan), *cell, "--out", str(whole)], check=True, capture_output=True
    )
    kills, command = 0, [*BRACT, "simulate", *arguments(tiny_plan), *cell, "--out", str(cut)]
    while kills < KILLS // 2 and start_and_kill(command, cut, dice.uniform(0, 0.25)):
        kills += 1
        released, charged = rounds_on_disk(cut)
        assert released <= charged
        command = [*BRACT, "simulate", "--resume", str(cut), "--json"]
    assert kills == KILLS // 2, "the run ended before it was killed often enough: give it more rounds"
    done = subprocess.run([*BRACT, "simulate", "--resume", str(cut), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "ledger.jsonl").read_bytes() == (whole / "ledger.jsonl").read_bytes()
    assert json.loads(done.stdout)["rounds"] == 40
