"""Ctrl-C, SIGTERM and SIGHUP, sent to real processes: one line, the way to go on, an exit code of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bract.cli.main import run

BRACT = [sys.executable, "-c", "from bract.cli.main import main; main()"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
PATIENCE = 600.0


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command as a shell in the foreground does: it is to hear all signals."""

    def hear() -> None:
        for number in CODES:
            signal.signal(number, signal.SIG_DFL)

    words = [*BRACT, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def hears(process: subprocess.Popen[str]) -> bool:
    """Whether the process has come as far as to hear SIGHUP, which Python itself does not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGHUP - 1) & 1)


def line_of(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, and return the one line that the process says before it ends with the signal's code."""
    process.send_signal(number)
    said, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (CODES[number], ""), error
    [line] = error.splitlines()
    assert line.startswith(f"interrupted by {number.name}: ")
    return line


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("wait", [0.0, 0.3, 1.0])
def test_a_signal_while_python_imports_leaves_no_traceback(
    wait: float, number: signal.Signals, tiny_plan: Path, tmp_path: Path
) -> None:
    process = start("simulate", tiny_plan, "--out", tmp_path / "run", "--set", "cohort.rounds=10000")
    wait_for(lambda: hears(process), process)
    time.sleep(wait)
    line = line_of(process, number)
    assert "nothing was written" in line or "--resume" in line


@pytest.mark.full
@pytest.mark.parametrize("number", CODES)
def test_a_stopped_run_names_the_command_that_goes_on_with_it(
    number: signal.Signals, tiny_plan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "one run"
    process = start("simulate", tiny_plan, "--out", out, "--set", "cohort.rounds=60", "--json")
    metrics = out / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
    line = line_of(process, number)
    assert line.endswith(f"to resume, type: bract simulate --resume '{out}'")
    finished = len(metrics.read_text().rpartition("\n")[0].splitlines())
    assert 0 < finished < 60
    if number is signal.SIGTERM:
        assert run(["simulate", "--resume", str(out), "--quiet"]) == 0
        assert [json.loads(row)["round"] for row in metrics.read_text().splitlines()] == list(range(1, 61))


@pytest.mark.full
def test_a_stopped_partition_says_that_its_folder_is_not_whole(
    tiny_plan: Path, tmp_path: Path, tiny_data: Path
) -> None:
    import numpy as np

    owners = np.repeat(np.arange(1000), 2)
    np.savez(tiny_data, x=np.zeros((2000, 1, 12, 12), np.float32), y=np.arange(2000) % 3, client=owners)
    out, clients = tmp_path / "shards", ["--set", "data.clients=800", "--set", "privacy.delta=1e-4"]
    process = start("partition", tiny_plan, "--out", out, *clients)
    wait_for(lambda: (out / "client-001.npz").exists(), process)
    assert line_of(process, signal.SIGTERM).endswith(f"{out} is incomplete, delete it")


@pytest.mark.full
def test_a_process_that_is_to_outlive_its_terminal_does(tiny_plan: Path, tmp_path: Path) -> None:
    """As nohup starts it: with SIGHUP ignored."""
    out = tmp_path / "run"
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from bract.cli.main import main; main()"
    words = [sys.executable, "-c", ignore, "simulate", str(tiny_plan), "--out", str(out), "--quiet"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "plan.toml").exists(), process)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (0, "")


def test_a_reader_that_leaves_early_is_no_fault_of_ours() -> None:
    """As `bract budget | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*BRACT, "budget", "--json"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode != 0
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_an_answer_that_cannot_be_printed_is_not_taken_for_given() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*BRACT, "budget", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 5
    assert done.stderr.startswith("error: cannot go on: no space left on device\nhint: ")
