"""Predicts with a trained model: classes by name with probabilities, numbers, next tokens, or reconstructions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...models.columns import restore, rule_of_label
from ...privacy import DataError
from .names import class_names
from .run import Trained

if TYPE_CHECKING:
    import pandas

SHOWN = 10
"""The most records that a notebook shows."""


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What a model predicts for records, in their order.

    `values` holds class numbers or next tokens, int64 [records]; numbers, float32 [records]; or reconstructions,
    float32 [records, *shape]. `probabilities` is float32 [records, classes], or None for numbers and
    reconstructions. `names` are the classes' names.
    """

    task: str
    values: np.ndarray
    probabilities: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} records, {self.task})"

    @property
    def labels(self) -> list[str]:
        """The predicted classes by name; empty for numbers and reconstructions."""
        return [self.names[number] for number in self.values] if self.probabilities is not None else []

    def header(self) -> list[str]:
        """The names of the columns of `rows`."""
        if self.probabilities is None:
            count = self.values[0].size if self.task == "reconstruction" else 1
            return ["predicted"] if count == 1 else [f"x{number}" for number in range(count)]
        return ["predicted", "probability", *(f"p({name})" for name in self.names)]

    def rows(self) -> Iterator[list[Any]]:
        """Yield the cells of each record."""
        if self.probabilities is None:
            yield from self.values.reshape(len(self), -1).tolist()
            return
        for number, chances in zip(self.values.tolist(), self.probabilities.tolist(), strict=True):
            yield [self.names[number], chances[number], *chances]

    def to_csv(self) -> str:
        """Return a table with one line for each record, below a line of names."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header())
        writer.writerows([_cell(value) for value in row] for row in self.rows())
        return text.getvalue()

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table with the columns of `to_csv`."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()), columns=self.header())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header()[:SHOWN])
        body = "".join(_row(row) for row, _ in zip(self.rows(), range(SHOWN), strict=False))
        rest = f"<p>and {len(self) - SHOWN:,} more records</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def predict(trained: Trained, features: np.ndarray) -> Predictions:
    """Return the predictions for features as the network takes them, [records, *shape], in the units of the data.

    Raises:
        DataError: the network is generative, so it predicts nothing for a record.
    """
    task = trained.learns.name
    if task == "generation":
        raise DataError(
            f"{trained.plan.model.name} makes records, and predicts nothing of one",
            "make some with run.model().make(10, seed=1) in Python",
        )
    outputs = torch.cat(list(trained.outputs(features)))
    if task in ("classification", "next token"):
        last = outputs[:, -1] if task == "next token" else outputs
        chances = last.double().softmax(-1).float().numpy()
        return Predictions(task, chances.argmax(-1), chances, class_names(trained.plan))
    if task == "regression":
        data = trained.plan.data
        rule = rule_of_label(data.columns, data.label)
        return Predictions(task, restore(outputs.flatten().numpy(), rule).astype(np.float32))
    return Predictions(task, outputs.numpy())


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _row(row: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<td>{escape(str(_cell(value)))}</td>' for value in row[:SHOWN])}</tr>"
