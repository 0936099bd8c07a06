"""The report."""

from __future__ import annotations

from pathlib import Path

from ..privacy.files import replace_file
from ..server.training import Outcome
from .study import Study


def write_report(path: Path, study: Study, outcome: Outcome, records: int) -> None:
    """Write the report."""
    replace_file(path, b"<html></html>")
