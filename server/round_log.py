"""One line of public figures a round."""

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
    """What a round came to. An epsilon is None where there is no guarantee.

    `figures`, by the keys of FIGURES, are None where the model was not tested; the loss also where it is not finite.
    `clip_norm` is that of the round where the plan adapts it. `codes` counts the devices by the code they answered
    with when they were asked to train, `opening` when asked to take the masks off; those that gave no answer in time
    count as "late". A round that was `lost` released nothing, though it is paid for; its codes are those of the trip
    that too few answered.
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
        """The figure to compare models by; None where the model was not tested, or that is not finite."""
        return score_of(self.figures or {})

    @property
    def quality(self) -> str:
        """That figure in words."""
        if self.figures is None:
            return "quality not measured"
        return f"{self.score.figure.name} {self.score}" if self.score else "quality not finite"


class Metrics:
    """The file of round records, a line each: flushed as they are written, cut back when a run resumes."""

    def __init__(self, path: Path, rounds: int) -> None:
        """Keep the records of the first `rounds` rounds; later ones belong to a round that a crash undid.

        Raises:
            StateError: a kept line is damaged.
        """
        self.path = path
        self.records = [r for r in _read(path) if r.round <= rounds]
        replace_file(path, "".join(_line(r) for r in self.records).encode())

    def write(self, record: RoundRecord) -> None:
        """Append one record.

        Raises:
            StorageError: it cannot be written.
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


def _read(path: Path) -> list[RoundRecord]:
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
