"""Handwritten digits from the scikit-learn package; the clients are the 14 form sheets with the digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....privacy.errors import DataError
from ..dataset import Dataset, path_of
from ..table import Source, Table

# The sequence of labels restarts with every sheet (scikit-learn course, lesson "Sample grouping").
SHEET_STARTS = (0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667)
RECORDS = 1797


def load(path: Path | None = None) -> Source:
    """Return 1,797 digits: features [1797, 1, 28, 28] in [0, 1], labels 0..9, clients 0..13, without a test part.

    The 8x8 pixels are divided by 16 and resized to 28x28 by bilinear interpolation.

    Raises: DataError if a path is given, or if scikit-learn has another edition of the data.
    Reference: UCI "Optical Recognition of Handwritten Digits", test part.
    """
    if path is not None:
        raise DataError("the data set digits is part of scikit-learn and takes no path", "remove data.path")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    if len(images) != RECORDS:
        raise DataError(
            f"scikit-learn's digits hold {len(images)} records instead of {RECORDS}",
            "install scikit-learn 1.5 or later from PyPI: pip install --force-reinstall scikit-learn",
        )
    features, numbers = _resized(np.asarray(images)), np.asarray(labels, dtype=np.int64)
    clients = np.searchsorted(SHEET_STARTS, np.arange(RECORDS), side="right") - 1
    return Source(Table(features, numbers, clients.astype(np.int64)), None)


def _resized(pixels: np.ndarray) -> np.ndarray:
    """Return images float32 [N, 1, 28, 28] in [0, 1] from pixels [N, 64] in 0..16."""
    import torch
    from torch.nn.functional import interpolate

    small = torch.from_numpy(pixels.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    return interpolate(small, size=(28, 28), mode="bilinear", align_corners=False).clamp(0, 1).numpy()


DATASET = Dataset(
    "digits",
    lambda data: load(path_of(data)),
    "1,797 handwritten digits on 14 sheets, one client each",
    (1, 28, 28),
    10,
)
