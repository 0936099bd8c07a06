"""Logs to MLflow, in a local store unless the environment names a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MlflowLogger:
    """One MLflow run: the plan's keys as parameters, the figures as metrics by round."""

    def __init__(self, folder: Path) -> None:
        """Log to MLFLOW_TRACKING_URI, or to a database in the run's folder."""
        import mlflow  # pyright: ignore[reportMissingImports]

        folder.mkdir(parents=True, exist_ok=True)
        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        self._client, self._name = mlflow.MlflowClient(tracking_uri=place), folder.name
        self._run = ""

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start the run and log the plan."""
        known = self._client.get_experiment_by_name("bract")
        experiment = known.experiment_id if known else self._client.create_experiment("bract")
        self._run = self._client.create_run(experiment, run_name=self._name).info.run_id
        for key, value in plan.items():
            self._client.log_param(self._run, key, value)

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Log each figure as a metric."""
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=round)

    def end(self) -> None:
        """End the run."""
        if self._run:
            self._client.set_terminated(self._run)
