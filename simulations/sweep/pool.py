"""The worker processes of a sweep: starts them, sends each one run at a time, and ends them in every case."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from .results import Record

COMMAND = (sys.executable, "-P", "-m", "bract.simulations.sweep.worker")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}

Job = dict[str, Any]
Message = dict[str, Any]
"""`run`, and either `record` (the fields of a Record), or `round` and `fresh` (False for a resumed run's start)."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    task: Job | None = None

    def give(self, task: Job) -> None:
        """Send a task to the worker; a dead worker is noticed when its output ends."""
        self.task = task
        with suppress(BrokenPipeError):
            _pipe(self.process.stdin).write(json.dumps(task).encode() + b"\n")
            _pipe(self.process.stdin).flush()


class Pool:
    """A pool of up to `jobs` worker processes, each with one compute thread."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._messages: queue.Queue[tuple[_Worker, Message | None]] = queue.Queue()

    def make(self, tasks: Sequence[Job]) -> Iterator[Message]:
        """Yield the workers' messages until every task has its record; end the workers then, or on any error.

        A worker that dies is replaced, and its run gets a record with the error.
        """
        waiting, left = deque(tasks), len(tasks)
        try:
            for _ in range(min(self._jobs, len(tasks))):
                self._start(waiting.popleft())
            while left:
                worker, message = self._messages.get()
                if message is None:
                    message = self._failure_of(worker)
                    if waiting:
                        self._start(waiting.popleft())
                elif "record" in message:
                    worker.task = None
                    if waiting:
                        worker.give(waiting.popleft())
                if message:
                    left -= "record" in message
                    yield message
        finally:
            self._end()

    def _start(self, task: Job) -> None:
        quiet = None if os.environ.get("BRACT_DEBUG") else subprocess.DEVNULL
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=quiet,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )
        worker = _Worker(process)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        worker.give(task)

    def _listen(self, worker: _Worker) -> None:
        with _pipe(worker.process.stdout) as stream:
            for line in stream:
                if line.endswith(b"\n"):  # else the worker was killed while it wrote
                    self._messages.put((worker, json.loads(line)))
        self._messages.put((worker, None))

    def _failure_of(self, worker: _Worker) -> Message:
        """Return a failure record for the dead worker's run, or an empty message if it had no run."""
        self._workers.remove(worker)
        code = worker.process.wait()
        _close(worker.process)
        if worker.task is None:
            return {}
        task = worker.task
        what = f"its process ended by signal {-code}" if code < 0 else f"its process ended with code {code}"
        hint = "if memory ran out, use fewer --jobs; set BRACT_DEBUG=1 to see its output"
        record = Record(task["run"], task["seed"], task["values"], task["folder"], error=what, hint=hint)
        return {"run": task["run"], "record": asdict(record)}

    def _end(self) -> None:
        """Kill all workers: a run's files are complete at any moment, and finished runs have records."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            _close(worker.process)
        self._workers.clear()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close the process's stdin; the thread that reads its stdout closes that."""
    with suppress(BrokenPipeError):
        _pipe(process.stdin).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process has no such pipe")
    return stream
