"""The log of rounds: one line of public figures for each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..privacy import StateError
from ..privacy.storage import replace_file, storage, write_all
from .evaluation.metrics import Score, score_of


@dataclass(frozen=True)
class RoundRecord:
    """The public figures of a round. An epsilon is None if it is infinite.

    `figures`, by the keys of FIGURES, are None if the model was not tested; `loss` is also None if it is not finite.
    `clip_norm` is the round's clip norm if the plan adapts it, else None. `codes` counts the devices by their answer
    to the request to train, `opening` by their answer to the request to unmask; devices without an answer in time
    count as "late". A `lost` round was charged but released nothing; its codes are from the phase with too few
    answers.
    """

    round: int
    loss: float | None
    figures: Mapping[str, float] | None
    epsilon: Mapping[str, float | None]
    cohort: int
    survivors: int
    codes: Mapping[str, int]
    seconds: float
    clip_norm: float | None = None
    opening: Mapping[str, int] = field(default_factory=dict[str, int])
    lost: bool = False

    @property
    def score(self) -> Score | None:
        """The figure to compare models by; None if it was not measured or is not finite."""
        return score_of(self.figures or {})

    @property
    def quality(self) -> str:
        """The figure of `score` in words."""
        if self.figures is None:
            return "quality not measured"
        return f"{self.score.figure.name} {self.score}" if self.score else "quality not finite"


class Metrics:
    """The file of round records, one line each; each write is flushed, and a resumed run truncates it."""

    def __init__(self, path: Path, rounds: int) -> None:
        """Keep the records of the first `rounds` rounds; later ones come from rounds that a crash undid.

        Raises:
            StateError: a line is damaged.
        """
        self.path = path
        self.records = [r for r in read_records(path) if r.round <= rounds]
        replace_file(path, "".join(_line(r) for r in self.records).encode())

    def write(self, record: RoundRecord) -> None:
        """Append one record.

        Raises:
            StorageError: the record cannot be written.
        """
        with storage(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                write_all(descriptor, _line(record).encode())
            finally:
                os.close(descriptor)
        self.records.append(record)


def _line(record: RoundRecord) -> str:
    fields = asdict(record)
    return json.dumps({**fields, "checksum": _checksum(fields)}) + "\n"


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def read_records(path: Path) -> list[RoundRecord]:
    """Return the records of a file, without a last line that a crash cut off; none if there is no file.

    Raises:
        StateError: a line is damaged.
    """
    if not path.exists():
        return []
    complete, _, _ = path.read_text("utf-8", errors="replace").rpartition("\n")
    return [_parse(path, number, line) for number, line in enumerate(complete.splitlines(), 1)]


def _parse(path: Path, number: int, line: str) -> RoundRecord:
    try:
        fields: dict[str, Any] = json.loads(line)
        if fields.pop("checksum", None) != _checksum(fields):
            raise ValueError("checksum")
        return RoundRecord(**fields)
    except (ValueError, TypeError, AttributeError) as fault:
        raise StateError(f"{path} is damaged at line {number}", "restore it from a copy, or delete it") from fault
