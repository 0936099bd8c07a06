"""The diabetes data set: known answers."""

from pathlib import Path

import numpy as np
import pytest
from data_table import data_table

from bract.simulations.datasets import holdout, load
from bract.simulations.datasets.shipped import diabetes


@pytest.fixture(scope="module")
def table():
    source = load(data_table("diabetes", None, (10,), 1))
    assert source.test is None
    return source.train


def test_known_answers(table):
    """The first two patients of the published table: scores 151 and 75."""
    assert table.features.shape == (442, 10)
    assert table.has_numbers
    assert table.classes == 1
    assert table.clients is None
    np.testing.assert_allclose(table.labels[:2] * 77 + 152, [151, 75], atol=1e-4)


def test_features_and_numbers_vary_by_about_one(table):
    for numbers in (table.features, table.labels):
        assert np.allclose(numbers.mean(0), 0, atol=0.01)
        assert np.allclose(numbers.std(0), 1, atol=0.01)


def test_pooled_regression_is_as_in_the_literature(table):
    """Least squares explains 0.518 of the variance (Efron et al. 2004, table 1 and section 7)."""
    whole = np.column_stack([table.features, np.ones(len(table))])
    weights = np.linalg.lstsq(whole, table.labels)[0]
    assert 1 - (whole @ weights - table.labels).var() / table.labels.var() == pytest.approx(0.518, abs=1e-3)


def test_a_part_is_held_out(table):
    train, test = holdout(load(data_table("diabetes", None, (10,), 1)), "iid", 0.2, 0)
    assert (len(train), len(test)) == (354, 88)


def test_path_is_refused(refused):
    refused(lambda: diabetes.load(Path("x")), "takes no path", "remove data.path")


def test_other_edition_is_refused(refused, monkeypatch):
    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "load_diabetes", lambda **_: (np.zeros((9, 10)), np.zeros(9)))
    refused(lambda: diabetes.load(None), "9 records instead of 442", "pip install")
