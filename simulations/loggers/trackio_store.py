"""Logs to trackio, which keeps its runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TrackioLogger:
    """One trackio run in the project `bract`: the plan as its configuration, the figures by round."""

    def __init__(self, folder: Path) -> None:
        """Log under the folder's name."""
        import trackio  # pyright: ignore[reportMissingImports]

        self._trackio, self._name = trackio, folder.name
        self._begun = False

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start the run with the plan as its configuration."""
        self._trackio.init(project="bract", name=self._name, config=dict(plan))
        self._begun = True

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a round."""
        self._trackio.log(dict(figures), step=round)

    def end(self) -> None:
        """Finish the run."""
        if self._begun:
            self._trackio.finish()
