"""A worker process: it reads runs from standard input and writes messages about them to standard output.

Each run and each message is one line of JSON. The worker exits as soon as its input ends, because the sweep has then
ended or wants it to stop; a run's files are complete at any moment.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...privacy import BractError, Ledger, StorageError
from ...server.round_log import RoundRecord
from ...server.state import ServerState
from .results import Record, write_record

Send = Callable[[dict[str, Any]], None]


class RoundReporter:
    """An observer that sends a message for every round, and keeps the run's total training time."""

    def __init__(self, run: int, send: Send) -> None:
        self._run, self._send = run, send
        self.seconds = 0.0

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Send the round from which the run starts or resumes."""
        del ledger
        self._say(state.round, state.seconds, fresh=False)

    def answered(self) -> None:
        """Do nothing."""

    def said(self, line: str) -> None:
        """Do nothing."""

    def finished_round(self, record: RoundRecord) -> None:
        """Send the number of the finished round."""
        self._say(record.round, record.seconds)

    def _say(self, number: int, seconds: float, fresh: bool = True) -> None:
        self.seconds = seconds
        self._send({"run": self._run, "round": number, "fresh": fresh})


class Worker:
    """Makes one run at a time, and keeps the data of the last one for runs that use the same data."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._data: Any = None
        self._population: Any = None

    def make(self, task: dict[str, Any]) -> Record:
        """Make a run and return its record, even if the run failed; it is on disk unless the disk failed."""
        blank = Record(task["run"], task["seed"], task["values"], task["folder"], process=os.getpid())
        blank = replace(blank, began=time.time())
        try:
            record = self._run(task, blank)
        except BractError as fault:
            record = replace(blank, error=fault.what, hint=fault.hint, ended=time.time())
            with suppress(OSError, StorageError):
                Path(task["folder"]).mkdir(parents=True, exist_ok=True)
                write_record(Path(task["folder"]), record)
        return record

    def _run(self, task: dict[str, Any], blank: Record) -> Record:
        from ...privacy import parse_tables
        from ..run import simulate
        from ..study import make_study

        folder = Path(task["folder"])
        kept = folder / "plan.toml"
        study = make_study(parse_tables(kept.read_text("utf-8") if kept.exists() else task["plan"], str(kept)))
        reporter = RoundReporter(task["run"], self._send)
        population = self._load_population(study)
        self._check(study, folder.parent)
        result = simulate(study, folder, reporter, population)
        record = replace(
            blank,
            loss=result.loss,
            figures=result.figures,
            epsilon=result.epsilon,
            delta=result.delta,
            rounds=result.rounds,
            seconds=round(reporter.seconds, 3),
            stopped=result.stopped,
            ended=time.time(),
        )
        write_record(folder, record)
        return record

    def _load_population(self, study: Any) -> Any:
        from ...client.records import torch_device
        from ..population import make_population

        data = (study.data, study.data_path)
        if data != self._data:
            self._data = self._population = None  # frees the old data before the new data are loaded
            self._population = make_population(study, torch_device())
            self._data = data
        return self._population

    def _check(self, study: Any, sweep: Path) -> None:
        """Refuse data that differ from those of the sweep's other runs with the same [data] table."""
        from ..same_data import check_data, keep_data, name_of

        kept = sweep / name_of(study)
        check_data(kept, self._population.fingerprint)
        keep_data(kept, self._population.fingerprint)


def main() -> None:
    """Make runs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    send = _channel()
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    from .. import machine

    machine.settle()
    worker = Worker(send)
    while True:
        task = tasks.get()
        record = _make_safely(worker, task)
        send({"run": task["run"], "record": asdict(record)})


def _make_safely(worker: Worker, task: dict[str, Any]) -> Record:
    """Make a run and return its record, even if bract itself fails; the record then names the error's type only."""
    try:
        return worker.make(task)
    except Exception as fault:
        if os.environ.get("BRACT_DEBUG"):
            traceback.print_exc()
        what, hint = (
            f"bract itself failed ({type(fault).__name__})",
            "set BRACT_DEBUG=1 for the traceback, and report it",
        )
        if isinstance(fault, ModuleNotFoundError):
            what = f"the package {fault.name} is not installed"
            hint = "type in the checkout of bract: pip install '.[sim]'"
        return Record(task["run"], task["seed"], task["values"], task["folder"], error=what, hint=hint)


def _channel() -> Send:
    """Return the function that sends a message on stdout; all other output is redirected to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return send


def _listen(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
