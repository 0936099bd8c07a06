"""The figures of a model's quality: their names, their format, and whether larger is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class QualityFigure:
    """A figure of quality: its name, whether larger is better, whether it is a fraction, and its largest value."""

    name: str
    larger: bool = True
    fraction: bool = False
    most: float | None = None

    @property
    def title(self) -> str:
        """The name at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]

    def show(self, value: float) -> str:
        """Return a value as text: a fraction in percent, others with four digits."""
        return f"{value:.1%}" if self.fraction else f"{value:.4g}"


FIGURES = {
    "accuracy": QualityFigure("accuracy", fraction=True, most=1.0),
    "precision": QualityFigure("precision", fraction=True, most=1.0),
    "recall": QualityFigure("recall", fraction=True, most=1.0),
    "f1": QualityFigure("F1", fraction=True, most=1.0),
    "roc_auc": QualityFigure("ROC-AUC", most=1.0),
    "perplexity": QualityFigure("perplexity", larger=False),
    "r2": QualityFigure("R2", most=1.0),
    "rmse": QualityFigure("RMSE", larger=False),
    "mae": QualityFigure("MAE", larger=False),
    "mse": QualityFigure("reconstruction error", larger=False),
    "psnr": QualityFigure("PSNR in dB"),
    "distance": QualityFigure("Fréchet distance", larger=False),
    "coverage": QualityFigure("coverage", fraction=True, most=1.0),
}
"""Figures by their keys in files. Precision, recall, F1 and ROC-AUC are macro averages, one class versus the rest."""

HEADLINES = ("accuracy", "r2", "mse", "distance")
"""The figures that models are compared by; each objective has exactly one."""


@dataclass(frozen=True)
class Score:
    """The figure by which a model is compared with others, and its value."""

    figure: QualityFigure
    value: float

    @property
    def merit(self) -> float:
        """The value, negated if smaller is better."""
        return self.value if self.figure.larger else -self.value

    def __str__(self) -> str:
        return self.figure.show(self.value)


def score_of(figures: Mapping[str, float]) -> Score | None:
    """Return the figure to compare models by, or None if it was not measured."""
    key = next((key for key in HEADLINES if key in figures), None)
    return None if key is None else Score(FIGURES[key], figures[key])
