"""A run in a script or a notebook: its figures, its model, and what the model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import nn

from ...privacy.budget import View
from ...privacy.storage import replace_file
from ...server.evaluation.metrics import Score
from ...server.round_log import RoundRecord
from ..report.page import Html, join, page
from ..report.run_figures import figures
from ..study import Study, mechanism_for
from ..trained.evaluate import evaluate
from ..trained.export import Kind, export
from ..trained.predict import Predictions, predict
from ..trained.records import check_features, read_features, read_labelled
from ..trained.run import Trained, read_trained
from .records import columns_of, is_place, table_of
from .shown import ShownEvaluation, values


class Plot:
    """Plots as one piece of HTML: a notebook shows them, and `save` writes them as a page."""

    def __init__(self, title: str, content: Html) -> None:
        self._title, self._content = title, content

    def _repr_html_(self) -> str:
        return f"<div>{_COLOURS}{self._content}</div>"

    def save(self, path: str | Path) -> None:
        """Write the plots to an .html file."""
        replace_file(Path(path), page(self._title, [self._content]).encode())


_COLOURS = Html(
    "<style>:root { --ink: #22262b; --quiet: #5b636c; --rule: #d8dbdd;"
    " --accent: #1d6391; --second: #b4561c; }</style>"
)


class Run:
    """A run that has ended, in its folder."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    @property
    def folder(self) -> Path:
        """The folder with the run's files."""
        return self._trained.folder

    @property
    def plan(self) -> Study:
        """The plan that was run."""
        return self._trained.plan

    @property
    def report(self) -> Path:
        """The report, an .html file."""
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        """The model's card, a text that says what is guaranteed."""
        return self.folder / "model.md"

    @property
    def rounds(self) -> list[RoundRecord]:
        """The public figures of each round."""
        return self._trained.records

    @cached_property
    def epsilon(self) -> dict[str, float | None]:
        """What was spent against someone who sees only the `released` models, and against the `server`.

        None where there is no bound, as against a trusted server.
        """
        found = self._trained.epsilon or {}
        return {view: found.get(view) for view in get_args(View)}

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the last test, on records that no client holds."""
        return next((dict(record.figures) for record in reversed(self.rounds) if record.figures), {})

    @property
    def score(self) -> Score | None:
        """The figure that compares models."""
        return next((record.score for record in reversed(self.rounds) if record.score), None)

    def model(self) -> nn.Module:
        """Return the trained network, in evaluation mode."""
        return self._trained.network

    def predict(self, x: Any) -> Predictions:
        """Return what the model predicts for records: an array, a tensor, a table, or the path of a file.

        Raises:
            DataError: they do not fit the plan.
        """
        return predict(self._trained, self._features(x))

    def evaluate(self, data: Any) -> ShownEvaluation:
        """Return the model's quality on labelled records, in the forms that `simulate` takes.

        Raises:
            DataError: they do not fit the plan.
        """
        shape, classes = self.plan.data.shape, self.plan.data.classes
        table = read_labelled(Path(data), self.plan) if is_place(data) else table_of(columns_of(data), shape, classes)
        return ShownEvaluation(**values(evaluate(self._trained, table)))

    def export(self, path: str | Path, kind: Kind = "torch") -> None:
        """Write the model to a file that runs without bract: `torch` (.pt2) or `onnx` (.onnx).

        Raises:
            PlanError: the file exists, or the network cannot be exported.
        """
        export(self._trained, Path(path), kind)

    def plot(self) -> Plot:
        """Return quality, epsilon, budget and participants over the rounds."""
        epsilon: Mapping[View, float | None] = {view: self.epsilon[view] for view in get_args(View)}
        title = f"{self.plan.model.name} on {self.plan.data.name}"
        return Plot(title, join(figures(self.rounds, mechanism_for(self.plan).budget, epsilon), "\n"))

    def _features(self, x: Any) -> np.ndarray:
        if is_place(x):
            return read_features(Path(x), self.plan)
        return check_features(columns_of(x)["x"], self.plan, "the data")

    def __repr__(self) -> str:
        return "\n".join(f"{name:<12}{value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._facts())
        return f"<table>{rows}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        score, privacy = self.score, self.plan.privacy
        about = f" for each {privacy.unit} at delta {privacy.delta:g}" if self.plan.protected else ""
        shown = {
            view: "none" if value is None else f"{value:.3f}{about}" for view, value in sorted(self.epsilon.items())
        }
        return [
            ("model", f"{self.plan.model.name} on {self.plan.data.name}"),
            ("quality", f"{score.figure.name} {score}" if score else "not measured"),
            ("epsilon", f"{shown['released']}, to whoever sees only the released models"),
            ("", f"{shown['server']}, to the server"),
            ("rounds", str(self._trained.round)),
            ("folder", str(self.folder)),
        ]


def load(folder: str | Path) -> Run:
    """Return the run in a folder.

    Raises:
        PlanError: the folder holds no trained model, or its network is not installed here.
    """
    return Run(read_trained(Path(folder)))
