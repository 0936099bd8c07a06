"""A worker: a process that makes the runs which its standard input names, and tells of them on its standard output.

One line of JSON is one run, and one message. It ends at once when its input ends: whoever started it is gone, or
wants it to stop; a run's state on disk is whole at any moment.
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

Tell = Callable[[dict[str, Any]], None]


class Watcher:
    """Tells of every round, and keeps the seconds that all parts of the run took so far."""

    def __init__(self, run: int, tell: Tell) -> None:
        self._run, self._tell = run, tell
        self.seconds = 0.0

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Tell from which round the run goes on."""
        del ledger
        self._say(state.round, state.seconds, fresh=False)

    def answered(self) -> None:
        """Do nothing."""

    def said(self, line: str) -> None:
        """Do nothing."""

    def finished_round(self, record: RoundRecord) -> None:
        """Tell of the round."""
        self._say(record.round, record.seconds)

    def _say(self, number: int, seconds: float, fresh: bool = True) -> None:
        self.seconds = seconds
        self._tell({"run": self._run, "round": number, "fresh": fresh})


class Worker:
    """Makes runs one after another, and keeps the data of the last one: runs over the same data share them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._data: Any = None
        self._population: Any = None

    def make(self, task: dict[str, Any]) -> Record:
        """Return what a run came to, also if it failed; it is on disk, unless the disk is what failed."""
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
        watcher = Watcher(task["run"], self._tell)
        people = self._people(study)
        self._check(study, folder.parent)
        result = simulate(study, folder, watcher, people)
        record = replace(
            blank,
            loss=result.loss,
            figures=result.figures,
            epsilon=result.epsilon,
            delta=result.delta,
            rounds=result.rounds,
            seconds=round(watcher.seconds, 3),
            stopped=result.stopped,
            ended=time.time(),
        )
        write_record(folder, record)
        return record

    def _people(self, study: Any) -> Any:
        from ...client.records import torch_device
        from ..population import make_population

        data = (study.data, study.data_path)
        if data != self._data:
            self._data = self._population = None  # the old data go before the new ones come
            self._population = make_population(study, torch_device())
            self._data = data
        return self._population

    def _check(self, study: Any, sweep: Path) -> None:
        """Refuse data that are not those that other runs of the sweep with the same data table had."""
        from ..same_data import check_data, keep_data, name_of

        kept = sweep / name_of(study)
        check_data(kept, self._population.fingerprint)
        keep_data(kept, self._population.fingerprint)


def main() -> None:
    """Make runs until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    tell = _channel()
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    from .. import machine

    machine.settle()
    worker = Worker(tell)
    while True:
        task = tasks.get()
        record = _carefully(worker, task)
        tell({"run": task["run"], "record": asdict(record)})


def _carefully(worker: Worker, task: dict[str, Any]) -> Record:
    """Return what a run came to, also where bract itself fails: of such a fault the kind is told, never the text."""
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


def _channel() -> Tell:
    """Return the function that sends a message; whatever else prints goes to the standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return tell


def _listen(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
