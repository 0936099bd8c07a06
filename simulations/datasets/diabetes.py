"""How far diabetes had gone a year later: numbers to predict, from the scikit-learn package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...privacy.errors import DataError
from .table import Source, Table

RECORDS = 442
SCALE = 21.0  # of the features: the root of 442, near enough
CENTRE, SPREAD = 152.0, 77.0  # of what is to be predicted


def load(path: Path | None = None) -> Source:
    """442 patients: features [442, 10], one number each to predict, no clients, no test part.

    The features are those that the package ships, of mean 0 and sum of squares 1 each, times 21: so they vary by
    about 1. The number is (y - 152) / 77 of the score y, 25 to 346: it too varies by about 1 around 0, so that to
    predict 0 makes a mean squared error of 1. These constants, and the package's own scaling, are taken to be public.

    Raises: DataError where a path is given, or where scikit-learn ships another edition of the data.
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
