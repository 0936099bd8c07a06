"""The record of a run of a sweep, written atomically when the run ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...privacy import StateError
from ...privacy.storage import replace_file
from ...server.evaluation.metrics import Score, score_of

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Record:
    """One run's result. An epsilon without a guarantee is None; `error` says why the run failed, if it did.

    `seconds` is the training time, summed over all parts of an interrupted run; `began` and `ended` (seconds since
    1970) and `process` describe the last part. `stopped` says why a run ended before its last round.
    """

    run: int
    seed: int
    values: Mapping[str, Any]
    folder: str
    loss: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    epsilon: Mapping[str, float | None] = field(default_factory=lambda: {"server": None, "released": None})
    delta: float | None = None
    rounds: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    error: str | None = None
    hint: str | None = None
    began: float = 0.0
    ended: float = 0.0
    process: int = 0

    @property
    def score(self) -> Score | None:
        """The metric that compares runs; None if it was not measured."""
        return score_of(self.figures)

    @property
    def finished(self) -> bool:
        """Whether the run ended without an error; a finished run never runs again."""
        return self.error is None


NAMES = tuple(f.name for f in fields(Record))


def write_record(folder: Path, record: Record) -> None:
    """Write the run's record to its folder, atomically and durably.

    Raises:
        StorageError: the file cannot be written.
    """
    replace_file(folder / RESULT_FILE, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_record(folder: Path) -> Record | None:
    """Return the record of the run in this folder, or None if it has none yet.

    Raises:
        StateError: the file is damaged.
    """
    path = folder / RESULT_FILE
    try:
        return record_of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise StateError(
            f"{path} is damaged", "restore it from a copy, or delete it to finish the run again"
        ) from fault


def record_of(values: Mapping[str, Any]) -> Record:
    """Return the record with these fields.

    Raises:
        TypeError, ValueError, KeyError: the fields are not a record's.
    """
    if set(values) != set(NAMES) or not {"server", "released"} <= set(values["epsilon"]):
        raise ValueError("not a record")
    return Record(**values)
