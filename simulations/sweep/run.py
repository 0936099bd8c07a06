"""Runs a sweep: workers make the unfinished runs, then the tables and the report are written."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...privacy import BractError, PlanError, StateError, SystemEntropy
from ...privacy.storage import storage
from ..report.sweep_report import write_report
from ..same_data import forget_data, name_of
from ..study import Study
from .cost import Cost, cost_of_runs, cost_of_selection
from .outcome import SweepOutcome, make_points, winner
from .pool import Job, Pool
from .progress import SweepProgress
from .request import (
    SWEEP_FILE,
    SweepRequest,
    SweepRun,
    draw_tries,
    make_runs,
    make_studies,
    read_request,
    same,
    seeded,
    write_request,
)
from .results import Record, read_record, record_of
from .tables import write_tables


class Interrupted(BractError):
    """Ctrl-C ended the sweep: no worker is left, and the sweep on disk can be resumed."""

    exit_code = 130


class RunsFailed(BractError):
    """The sweep has ended, but some of its runs failed."""


def sweep(request: SweepRequest, folder: Path, jobs: int, shown: bool = True) -> SweepOutcome:
    """Make the request's unfinished runs in `folder`, and write tables and report there.

    A failed run is recorded and does not stop the others; a resumed sweep tries it again.

    Raises:
        PlanError: points of the grid have faults, all of them named, or the folder holds something else. Nothing ran.
        StateError: another process uses the folder, or a file in it is damaged.
        StorageError: the disk is full; finished runs are on disk.
        Interrupted: Ctrl-C was pressed; no worker is left, and finished runs are on disk.
    """
    try:
        studies = make_studies(request)
        with _opened(folder, request) as kept:
            return _sweep(kept, studies, folder, jobs, shown)
    except KeyboardInterrupt:
        begun = (folder / SWEEP_FILE).exists()
        hint = f"finished runs are on disk; to resume, type: bract sweep --resume {folder}"
        raise Interrupted("interrupted", hint if begun else "no run had started") from None


def check_failures(outcome: SweepOutcome) -> None:
    """Raise RunsFailed if any run failed.

    Raises:
        RunsFailed: some runs failed.
    """
    if failed := outcome.failed:
        first = failed[0]
        where = outcome.folder / "results.csv"
        raise RunsFailed(
            f"{len(failed)} of {len(outcome.records)} runs failed, the first: {first.error}",
            f"{first.hint or 'correct that'}; {where} lists all; to try them again, type: bract sweep --resume"
            f" {outcome.folder}",
        )


def _sweep(request: SweepRequest, studies: Sequence[Study], folder: Path, jobs: int, shown: bool) -> SweepOutcome:
    began = time.monotonic()
    runs = make_runs(request)
    final = request.selection is not None  # repeating a failed try could change an outcome that is already released
    records = _records(runs, studies, folder, jobs, shown, final)
    outcome = _outcome(request, runs, studies, folder, records, time.monotonic() - began)
    write_tables(folder, [axis.key for axis in request.axes], outcome.records)
    write_report(folder / "report.html", outcome, studies)
    if final or not outcome.failed:
        for study in studies:
            forget_data(folder / name_of(study))
    return outcome


def _records(
    runs: Sequence[SweepRun], studies: Sequence[Study], folder: Path, jobs: int, shown: bool, final: bool
) -> list[Record]:
    """Return the record of every run: from disk if it finished (or failed, if `final`), else from a worker."""
    on_disk = {run.number: read_record(folder / run.folder) for run in runs}
    found = {number: record for number, record in on_disk.items() if record and (record.finished or final)}
    left = [run for run in runs if run.number not in found]
    rounds = {run.number: studies[run.point].cohort.rounds for run in runs}
    with SweepProgress(rounds, list(found.values()), shown) as progress:
        for message in Pool(jobs).make([_task(run, studies[run.point], folder) for run in _by_data(left, studies)]):
            progress.update(message)
            if "record" in message:
                found[message["run"]] = _settled(record_of(message["record"]))
    return [found[run.number] for run in runs]


def _settled(record: Record) -> Record:
    """Return the record, or the one on disk if the worker finished the run and died before it could report it."""
    kept = None if record.finished else read_record(Path(record.folder))
    return kept if kept and kept.finished else record


def _task(run: SweepRun, study: Study, folder: Path) -> Job:
    plan = seeded(study, run.seed).to_toml()
    place = str(folder / run.folder)
    return {"run": run.number, "seed": run.seed, "values": dict(run.values), "folder": place, "plan": plan}


def _by_data(runs: Sequence[SweepRun], studies: Sequence[Study]) -> list[SweepRun]:
    """Return the runs grouped by data set, because a worker holds one data set at a time."""
    first: dict[object, int] = {}
    for run in runs:
        first.setdefault(studies[run.point].data, len(first))
    return sorted(runs, key=lambda run: first[studies[run.point].data])


def _outcome(
    request: SweepRequest,
    runs: Sequence[SweepRun],
    studies: Sequence[Study],
    folder: Path,
    records: list[Record],
    seconds: float,
) -> SweepOutcome:
    if request.selection is None:
        cost: Cost = cost_of_runs(runs, studies, folder)
        return SweepOutcome(request, folder, tuple(records), make_points(records), cost, seconds)
    best = winner(records)
    if best is None and records:
        raise RunsFailed(
            f"no try has an outcome; the first: {records[0].error or 'its quality was not measured'}",
            f"{records[0].hint or 'correct that'}; then start again with another --out",
        )
    chosen = (best,) if best else ()
    cost = cost_of_selection(request.selection.make_repetitions(), studies)
    return SweepOutcome(request, folder, chosen, make_points(chosen), cost, seconds)


@contextmanager
def _opened(folder: Path, request: SweepRequest) -> Iterator[SweepRequest]:
    """Lock the folder and yield the request stored there, with its drawn tries; store it first in a new folder."""
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"{folder} is a file, a sweep takes a folder", "name a folder that does not exist yet")
    if folder.exists() and not (folder / SWEEP_FILE).exists() and _used(folder):
        raise PlanError(f"{folder} is not empty and holds no sweep", "choose another --out")
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if request.selection:  # the number of tries and their results are secret
            folder.chmod(0o700)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(lock, folder)
        yield _kept(folder, request)
    finally:
        os.close(lock)


def _used(folder: Path) -> bool:
    return any(path.name not in (".lock", SWEEP_FILE + ".draft") for path in folder.iterdir())


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateError(f"another process sweeps in {folder}", "wait for it to end, or stop it") from None


def _kept(folder: Path, request: SweepRequest) -> SweepRequest:
    if not (folder / SWEEP_FILE).exists():
        drawn = draw_tries(request, SystemEntropy())
        write_request(folder, drawn)
        return drawn
    kept = read_request(folder)
    if not same(kept, request):
        raise PlanError(f"{folder} holds another sweep", f"choose another --out, or resume with --resume {folder}")
    return kept
