"""The worker processes: all are used, each is used again, one that dies is replaced, and none outlives the sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import DataError
from bract.simulations.sweep import pool, worker
from bract.simulations.sweep.pool import Pool, cores
from bract.simulations.sweep.results import read_record

FAKE = """
import json, os, sys
print("noise on the standard error", file=sys.stderr)
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({"run": task["run"], "round": 1, "fresh": True}), flush=True)
    if task["plan"] == "die":
        sys.stdout.write('{"torn')
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    if task["plan"] == "leave":
        sys.exit(3)
    if task["plan"] == "hang":
        import time
        time.sleep(600)
    threads = os.environ["OMP_NUM_THREADS"]
    record = {"run": task["run"], "process": os.getpid(), "error": None, "threads": threads}
    print(json.dumps({"run": task["run"], "record": record}), flush=True)
"""


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", FAKE))


def tasks(*plans: str) -> list[dict[str, Any]]:
    return [{"run": n, "seed": 1, "values": {}, "folder": "x", "plan": plan} for n, plan in enumerate(plans, 1)]


def records(messages: Iterator[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {message["run"]: message["record"] for message in messages if "record" in message}


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_every_worker_is_used_and_used_again() -> None:
    found = records(Pool(3).make(tasks(*["go"] * 12)))
    assert sorted(found) == list(range(1, 13))
    processes = {record["process"] for record in found.values()}
    assert len(processes) == 3
    assert all(gone(process) for process in processes)
    assert {record["threads"] for record in found.values()} == {"1"}


def test_no_more_workers_are_started_than_there_are_runs() -> None:
    assert len({r["process"] for r in records(Pool(8).make(tasks("go", "go"))).values()}) <= 2
    assert records(Pool(8).make([])) == {}


def test_rounds_are_told_before_the_record() -> None:
    messages = [m for m in Pool(1).make(tasks("go", "go"))]
    assert [("record" in m, m["run"]) for m in messages] == [(False, 1), (True, 1), (False, 2), (True, 2)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_worker_that_dies_is_replaced_and_its_run_says_how(jobs: int) -> None:
    found = records(Pool(jobs).make(tasks("go", "die", "leave", "go", "die")))
    assert [found[n]["error"] for n in range(1, 6)] == [
        None,
        "its process ended by signal 9",
        "its process ended with code 3",
        None,
        "its process ended by signal 9",
    ]
    assert "--jobs" in found[2]["hint"]


def test_workers_are_killed_when_the_sweep_is_left() -> None:
    crew = Pool(2)
    messages = crew.make(tasks("hang", "hang", "go"))
    next(messages)
    processes = [w.process for w in crew._workers]
    assert len(processes) == 2
    messages.close()
    assert all(process.returncode == -9 for process in processes)


def test_all_cores_are_known() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_a_run_that_fails_is_recorded_with_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise DataError("there are no data", "find some")

    maker = worker.Worker(lambda message: None)
    monkeypatch.setattr(maker, "_run", refuse)
    task = tasks("go")[0] | {"folder": str(tmp_path / "run-001")}
    record = maker.make(task)
    assert (record.error, record.hint, record.finished) == ("there are no data", "find some", False)
    assert read_record(tmp_path / "run-001") == record


def test_a_fault_of_ours_tells_its_kind_and_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of bract itself."""

    def broken(*arguments: object) -> None:
        raise RuntimeError("record 7 is of Ada Lovelace")

    def missing(*arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    maker = worker.Worker(lambda message: None)
    monkeypatch.setattr(maker, "make", broken)
    record = worker._make_safely(maker, tasks("go")[0])
    assert record.error == "bract itself failed (RuntimeError)"
    monkeypatch.setattr(maker, "make", missing)
    assert "pandas is not installed" in str(worker._make_safely(maker, tasks("go")[0]).error)


def test_runs_over_the_same_data_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old data go first."""
    from bract.simulations import population
    from bract.simulations.study import make_study

    maker, made = worker.Worker(lambda message: None), []

    def make(study: Any, device: object) -> str:
        assert maker._population is None
        made.append(study.data.seed)
        return f"population {study.data.seed}"

    monkeypatch.setattr(population, "make_population", make)
    common = {"privacy": {"noise": "central", "noise_multiplier": 2.0, "epsilon": 1e4}}
    studies = [make_study(common | {"data": {"seed": seed}}) for seed in (1, 1, 2, 2, 1)]
    assert [maker._load_population(study) for study in studies] == [f"population {seed}" for seed in (1, 1, 2, 2, 1)]
    assert made == [1, 2, 1]
