"""Logs the figures of each round to `rounds.csv` in the run's folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...privacy.storage import replace_file, storage
from .base import ROUND_FIELDS


class CsvLogger:
    """A table with one line for each round, below a line of names; a figure that was not measured is empty."""

    def __init__(self, folder: Path) -> None:
        """Log to `rounds.csv` in the folder."""
        self.path = folder / "rounds.csv"

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start the table; a resumed run goes on with it."""
        if not self.path.exists():
            replace_file(self.path, self._line(["round", *ROUND_FIELDS]))

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Append the round's line."""
        with storage(self.path), self.path.open("ab") as file:
            file.write(self._line([round, *(figures.get(name, "") for name in ROUND_FIELDS)]))

    def end(self) -> None:
        """Do nothing: each line is on disk already."""

    @staticmethod
    def _line(cells: list[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue().encode()
