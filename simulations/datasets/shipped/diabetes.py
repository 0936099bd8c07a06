"""Regression on diabetes progression after one year, from the scikit-learn package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....privacy.errors import DataError
from ..dataset import Dataset, path_of
from ..table import Source, Table

RECORDS = 442
SCALE = 21.0  # scale of the features, about the square root of 442
CENTRE, SPREAD = 152.0, 77.0  # mean and standard deviation of the target, rounded


def load(path: Path | None = None) -> Source:
    """Return 442 patients: features [442, 10], one number each to predict, without clients or a test part.

    The package's features have mean 0 and sum of squares 1; times 21, their standard deviation is about 1. The target
    is (y - 152) / 77 for the score y in 25..346: its mean is about 0, its standard deviation about 1, and a constant
    prediction of 0 has a mean squared error of 1. These constants and the package's scaling are assumed to be public.

    Raises: DataError if a path is given, or if scikit-learn has another edition of the data.
    Reference: Efron et al. 2004, "Least Angle Regression", section 1.
    """
    if path is not None:
        raise DataError("the data set diabetes is part of scikit-learn and takes no path", "remove data.path")
    from sklearn.datasets import load_diabetes

    features, scores = map(np.asarray, load_diabetes(return_X_y=True))
    if features.shape != (RECORDS, 10):
        raise DataError(
            f"scikit-learn's diabetes data hold {len(features)} records instead of {RECORDS}",
            "install scikit-learn 1.5 or later from PyPI: pip install --force-reinstall scikit-learn",
        )
    scaled, numbers = SCALE * features, (scores - CENTRE) / SPREAD
    return Source(Table(scaled.astype(np.float32), numbers.astype(np.float32)), None)


DATASET = Dataset(
    "diabetes",
    lambda data: load(path_of(data)),
    "the progression of diabetes in 442 patients, a number to predict",
    (10,),
    1,
)
