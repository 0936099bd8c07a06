"""Logs to Weights & Biases, offline: nothing leaves the machine until its owner types `wandb sync`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandbLogger:
    """One offline run in the run's folder: the plan as its configuration, the figures by round."""

    def __init__(self, folder: Path) -> None:
        """Log to `wandb` in the folder."""
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb, self._folder, self._run = wandb, folder, None

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start the run with the plan as its configuration."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project="bract", name=self._folder.name, dir=str(self._folder), mode="offline", config=dict(plan)
        )

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a round."""
        if self._run is not None:
            self._run.log(dict(figures), step=round)

    def end(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()
