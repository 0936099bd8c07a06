"""The digits data set: known answers."""

from pathlib import Path

import numpy as np
import pytest

from bract.simulations.datasets.shipped import digits

# From the UCI description of the data: how often each digit occurs in its test part.
LABEL_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
SHEET_SIZES = [130, 126, 130, 130, 130, 130, 139, 114, 128, 130, 128, 130, 122, 130]


@pytest.fixture(scope="module")
def table():
    source = digits.load(None)
    assert source.test is None
    return source.train


def test_known_answers(table):
    assert table.features.shape == (1797, 1, 28, 28)
    assert np.bincount(table.labels).tolist() == LABEL_COUNTS
    assert np.bincount(table.clients).tolist() == SHEET_SIZES
    assert table.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_every_sheet_starts_over_and_holds_all_digits(table):
    for sheet in range(14):
        labels = table.labels[table.clients == sheet]
        assert labels[:10].tolist() == list(range(10))
        assert set(labels) == set(range(10))


def test_pixels_are_the_small_ones_resized(table):
    from sklearn.datasets import load_digits

    small = load_digits().images / 16
    assert table.features.min() == 0
    assert table.features.max() <= 1
    # Bilinear with half-pixel centres: the corners are the small picture's corners.
    np.testing.assert_allclose(table.features[:, 0, 0, 0], small[:, 0, 0], atol=1e-6)
    np.testing.assert_allclose(table.features[:, 0, -1, -1], small[:, -1, -1], atol=1e-6)
    # A second implementation, on one picture: weights by numpy.
    places = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    weights = np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(8)))
    np.testing.assert_allclose(table.features[3, 0], weights @ small[3] @ weights.T, atol=1e-6)


def test_pooled_classification_is_as_in_the_literature(table):
    from sklearn.neighbors import KNeighborsClassifier

    held_out = table.clients >= 11
    flat = table.features.reshape(len(table), -1)
    model = KNeighborsClassifier(3).fit(flat[~held_out], table.labels[~held_out])
    assert model.score(flat[held_out], table.labels[held_out]) > 0.93


def test_path_is_refused(refused):
    refused(lambda: digits.load(Path("x")), "takes no path", "remove data.path")


def test_other_edition_is_refused(refused, monkeypatch):
    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: (np.zeros((9, 64)), np.zeros(9, int)))
    refused(lambda: digits.load(None), "9 records instead of 1797", "pip install")
