"""Logs to TensorBoard: look at it with `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorboardLogger:
    """Scalars by round, in the folder `tensorboard` of the run, and the plan as text."""

    def __init__(self, folder: Path) -> None:
        """Log to `tensorboard` in the folder."""
        from torch.utils.tensorboard.writer import SummaryWriter  # needs the package tensorboard

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Log the plan as a table."""
        lines = [f"| {key} | {value} |" for key, value in plan.items()]
        self._writer.add_text("plan", "\n".join(["| key | value |", "|---|---|", *lines]))

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Log each figure as a scalar."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, round)

    def end(self) -> None:
        """Close the file."""
        self._writer.close()
