"""What a run of a sweep came to: a record that is written once, whole, when the run has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...privacy import StateError
from ...privacy.storage import replace_file
from ...server.evaluation.metrics import Score, score_of

FILE = "result.json"


@dataclass(frozen=True)
class Record:
    """One run's figures. An epsilon is None where there is no guarantee; `error` says why the run failed, if it did.

    `seconds` is the time of training, over all its parts if it was cut off; `began` and `ended`, in seconds since
    1970, and `process` are those of its last part. `stopped` says why a run ended before its last round.
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
        """The figure to compare runs by, None where it was not measured."""
        return score_of(self.figures)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: what is finished is never run again."""
        return self.error is None


NAMES = tuple(f.name for f in fields(Record))


def write_record(folder: Path, record: Record) -> None:
    """Write the record of the run in this folder, at once and durably.

    Raises:
        StorageError: it cannot be written.
    """
    replace_file(folder / FILE, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_record(folder: Path) -> Record | None:
    """Return the record of the run in this folder, or None while there is none.

    Raises:
        StateError: the file is damaged.
    """
    path = folder / FILE
    try:
        return record_of(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise StateError(
            f"{path} is damaged", "restore it from a copy, or delete it to have the run ended again"
        ) from fault


def record_of(values: Mapping[str, Any]) -> Record:
    """Return the record of plain values.

    Raises:
        TypeError, ValueError, KeyError: they are not those of a record.
    """
    if set(values) != set(NAMES) or not {"server", "released"} <= set(values["epsilon"]):
        raise ValueError("not a record")
    return Record(**values)
