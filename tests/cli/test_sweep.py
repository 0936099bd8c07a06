"""`bract sweep` as a person types it, with its real workers: all cores, Ctrl-C, going on, and how it says no."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bract.cli.main import run
from bract.simulations.sweep.pool import cores

BRACT = [sys.executable, "-c", "from bract.cli.main import main; main()"]
GRID = ["--over", "privacy.epsilon=2,8", "--over", "training.learning_rate=0.5,1"]
PATIENCE = 600.0


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which has its jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def words(arguments: list[object]) -> list[str]:
    return [str(word) for word in arguments]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[object], code: int = 2) -> str:
    """Run a command that must be refused: two lines on stderr, nothing on stdout, this exit code."""
    assert run(words(arguments)) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(": ")[0] for line in said.err.strip().splitlines()] == ["error", "hint"], said.err
    return said.err


def marks(out: Path) -> dict[str, tuple[int, int, bytes]]:
    """What tells whether a run's record was written again: its inode, its time and its content."""
    paths = sorted(out.glob("run-*/result.json"))
    return {p.parent.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


def records(out: Path) -> list[dict]:
    return [json.loads(content) for _, _, content in marks(out).values()]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended as we looked
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end_of(workers: list[int]) -> None:
    """Wait for the workers to end, as they do with their input."""
    end = time.monotonic() + PATIENCE
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(alive, workers))


def running(out: Path) -> list[Path]:
    """The metrics of runs that have made rounds and are not finished."""
    metrics = out.glob("run-*/metrics.jsonl")
    return [path for path in metrics if path.stat().st_size and not (path.parent / "result.json").exists()]


def test_twelve_runs_use_all_cores_and_go_on_after_ctrl_c(tiny_plan: Path, tmp_path: Path) -> None:
    """No run is repeated."""
    out = tmp_path / "sweep"
    command = [*BRACT, *words(["sweep", tiny_plan, *GRID, "--seeds", 3, "--set", "cohort.rounds=25", "--out", out])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(marks(out)) >= 3 and len(running(out)) > 0, process)
    workers = children(process.pid)
    assert len(workers) == min(cores(), 12)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said == ""
    resume = f"finished work is on disk; to resume, type: bract sweep --resume {out}"
    assert error.splitlines() == [f"interrupted by SIGINT: {resume}"]
    end_of(workers)
    before = marks(out)
    assert 3 <= len(before) < 12
    cut = {path: path.read_text().splitlines()[:-1] for path in running(out)}

    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["runs"], result["failed"], len(result["points"])) == (12, 0, 4)
    after = marks(out)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before
    for path, lines in cut.items():  # a run that was cut off went on: its lines hold times that no second try repeats
        assert path.read_text().splitlines()[: len(lines)] == lines
    if cores() > 1:
        both = sorted((r["began"], r["ended"], r["process"]) for r in records(out))
        assert any(a[1] > b[0] and a[2] != b[2] for a, b in pairwise(both))


def test_workers_end_with_a_killed_sweep_and_it_can_be_resumed(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    arguments = ["sweep", tiny_plan, "--seeds", 3, "--set", "cohort.rounds=60", "--jobs", 2, "--out", out]
    process = subprocess.Popen([*BRACT, *words(arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: len(running(out)) > 0, process)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    end_of(workers)
    assert run(words(["sweep", "--resume", out, "--quiet"])) == 0
    assert [(record["seed"], record["rounds"]) for record in records(out)] == [(1, 60), (2, 60), (3, 60)]


def test_a_sweep_writes_all_that_it_promises(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one = tmp_path / "sweep", tmp_path / "one"
    command: list[object] = [
        "sweep",
        tiny_plan,
        "--over",
        "privacy.epsilon=2,8",
        "--seeds",
        2,
        "--out",
        out,
        "--json",
    ]
    assert run(words(command)) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert said.err == ""
    assert result["best"]["seeds"] == [1, 2]
    assert result["search"]["runs"] == 4
    assert result["search"]["epsilon"]["released"] > result["search"]["one_run_a_point"]["released"] > 8
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *(f"run-{number:03d}" for number in range(1, 5)),
        "sweep.toml",
        "results.csv",
        "results.parquet",
        "report.html",
    }
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["privacy.epsilon"], row["seed"]) for row in rows] == [("2", "1"), ("2", "2"), ("8", "1"), ("8", "2")]
    assert all(float(row["epsilon_released"]) <= float(row["privacy.epsilon"]) for row in rows)

    assert (
        run(words(["simulate", tiny_plan, "--set", "privacy.epsilon=2", "--seed", 2, "--out", one, "--quiet"])) == 0
    )
    assert (one / "model.safetensors").read_bytes() == (out / "run-002" / "model.safetensors").read_bytes()
    capsys.readouterr()

    before = marks(out)
    assert run(words(command)) == 0
    again = json.loads(capsys.readouterr().out)
    assert marks(out) == before
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    assert "holds another sweep" in refused(capsys, ["sweep", tiny_plan, "--over", "privacy.epsilon=2", "--out", out])
    with (out / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process" in refused(capsys, ["sweep", "--resume", out], 4)
    (out / "run-003" / "result.json").write_text("{}")
    assert "result.json is damaged" in refused(capsys, ["sweep", "--resume", out], 4)


def test_a_run_that_fails_is_told_and_tried_again(
    tiny_plan: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other runs go on meanwhile."""
    out, late = tmp_path / "sweep", tmp_path / "late.npz"
    paths = f"data.path={late},{tiny_data}"
    assert run(words(["sweep", tiny_plan, "--over", paths, "--out", out, "--quiet"])) == 1
    said = capsys.readouterr()
    assert "1 of 2 finished" in said.out
    assert f"error: 1 of 2 runs failed, the first: {late}" in said.err
    with (out / "results.csv").open(newline="") as stream:
        assert [bool(row["error"]) for row in csv.DictReader(stream)] == [True, False]
    assert records(out)[0]["hint"]
    finished = marks(out)["run-002"]
    late.write_bytes(tiny_data.read_bytes())
    assert run(words(["sweep", "--resume", out, "--quiet"])) == 0
    assert marks(out)["run-002"] == finished
    assert [record["error"] for record in records(out)] == [None, None]


def test_private_selection_shows_one_outcome_and_keeps_all(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn is kept."""
    from bract.simulations.seeded import SeededEntropy

    monkeypatch.setattr("bract.simulations.sweep.run.SystemEntropy", lambda: SeededEntropy(2))
    out = tmp_path / "sweep"
    command = ["sweep", tiny_plan, *GRID, "--select", "private", "--tries", 3, "--law", "geometric", "--out", out]
    assert run(words([*command, "--json"])) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["selection"] == {"law": "geometric", "tries": 3}
    assert result["search"]["epsilon"]["server"] is None
    assert result["search"]["epsilon"]["released"] > 8
    with (out / "results.csv").open(newline="") as stream:
        [row] = csv.DictReader(stream)
    assert float(row["accuracy"]) == max(record["figures"]["accuracy"] for record in records(out))
    drawn, before = (out / "sweep.toml").read_bytes(), marks(out)
    monkeypatch.setattr("bract.simulations.sweep.run.SystemEntropy", lambda: SeededEntropy(3))
    assert run(words([*command, "--quiet"])) == 0
    assert (out / "sweep.toml").read_bytes() == drawn
    assert marks(out) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--over", "privacy.epsilon=0,8", "--over", "cohort.size=5,9"], "3 of 4 points"),
        (["--over", "privacy.epsilom=1,2"], "privacy.epsilon?"),
        (["--over", "privacy.epsilon"], "--over privacy.epsilon=1,2,4"),
        (["--over", "privacy.epsilon=1,1"], "twice"),
        (["--over", "simulation.seed=1,2"], "--seeds"),
        (["--set", "cohort.size=9"], "cohort.size is 9"),
        (["--seeds", "0"], "--seeds"),
        (["--jobs", "0"], "--jobs"),
        (["--tries", "4"], "--select private"),
        (["--law", "poisson"], "--select private"),
        (["--select", "best"], "--select"),
        (["--select", "private"], "nothing to choose from"),
        ([*GRID, "--select", "private", "--seeds", "2"], "leave out --seeds"),
        ([*GRID, "--select", "private", "--tries", "1"], "1 expected tries"),
        ([*GRID, "--select", "private", "--law", "normal"], "law normal"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    options: list[str], named: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    assert named in refused(capsys, ["sweep", tiny_plan, *options, "--out", out])
    assert not out.exists()


def test_folders_that_hold_something_else_are_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no sweep" in refused(capsys, ["sweep", tiny_plan, "--out", tmp_path])
    assert "holds no sweep" in refused(capsys, ["sweep", "--resume", tmp_path])
    assert "is a file, a sweep takes a folder" in refused(capsys, ["sweep", tiny_plan, "--out", tiny_plan])
    assert "--resume uses" in refused(capsys, ["sweep", "--resume", tmp_path, "--seeds", 2])
    (tmp_path / "sweep.toml").write_text("[sweep]\n")
    assert "sweep.toml is damaged" in refused(capsys, ["sweep", "--resume", tmp_path], 4)


def test_ctrl_c_before_anything_was_begun_says_so(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(request: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr("bract.simulations.sweep.run.make_studies", interrupt)
    assert "no run had started" in refused(capsys, ["sweep", tiny_plan, "--out", tmp_path / "sweep"], 130)
