"""What is odd in one's own data gets a short line before the run, and what is not odd gets none."""

from __future__ import annotations

import numpy as np
import pytest

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files
from bract.simulations.population import make_population
from bract.simulations.study import make_study

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.arange(40) % 2


@pytest.fixture
def notices(tmp_path):
    """A function of the columns of a table to the notices of reading it."""

    def read(x=X, classes=2, **columns):
        told = {"label": Y} | columns if "target" not in columns else columns
        names = ["a", "b", "c", *told]
        rows = zip(*x.T, *told.values(), strict=True)
        text = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])
        (tmp_path / "d.csv").write_text(text)
        return list(files.load(tmp_path / "d.csv", Data(shape=(3,), classes=classes)).notices)

    return read


def changed(column, values):
    x = X.copy()
    x[:, column] = values
    return x


def test_data_in_order_get_no_notice(notices):
    assert notices() == []
    assert notices(client=[f"ward {i % 4}" for i in range(40)]) == []
    assert notices(target=X[:, 0], classes=1) == []


@pytest.mark.parametrize(
    ("columns", "notice"),
    [
        ({"label": Y * 0}, "all records have one label, 0: there is nothing to learn"),
        ({"label": Y + 1, "classes": 3}, "1 of 3 classes have no record: 0"),
        ({"classes": 9}, "7 of 9 classes have no record: 2, 3, 4, ..."),
        ({"x": changed(1, 0.5)}, "one value in all records: b; leave out constant columns"),
        ({"x": changed(1, 1e-60)}, "one value in all records: b; leave out constant columns"),
        ({"x": changed(2, RNG.permutation(40) / 10) * 10}, "a different whole number in every record: c; leave out"),
        ({"x": changed(0, X[:, 0] * 1e6)}, "features are not scaled, a the largest, about 9.48e+05"),
        ({"x": X / 1e4}, "features are not scaled, "),
        ({"target": X[:, 0] * 1000, "classes": 1}, "the numbers to predict are about 948"),
        ({"client": ["Ann", "ann", "b", "c"] * 10}, "1 owners differ from another owner only in case"),
        ({"client": ["Ann", "An\u200bn", "b", "c"] * 10}, "1 owners differ from another owner only in case"),
    ],
)
def test_what_is_odd_is_said_in_a_line(notices, columns, notice):
    found = notices(**columns)
    assert any(line.startswith(notice) for line in found), found
    assert all(len(line) < 120 and "\n" not in line for line in found)


def test_a_notice_names_no_owner(notices):
    assert "Ann" not in "".join(notices(client=["Ann", "ANN", "b", "c"] * 10))


def test_many_columns_are_counted_not_listed(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((40, 500)), y=Y)
    (line,) = files.load(tmp_path / "d.npz", Data(shape=(500,), classes=2)).notices
    assert line == "one value in all records: x[:, 0], x[:, 1], x[:, 2] and 497 more; leave out constant columns"


def test_pixels_that_are_never_lit_get_no_notice(tmp_path):
    x = np.zeros((40, 5, 5), np.uint8)
    x[:, 2, 2] = np.arange(40)
    np.savez(tmp_path / "d.npz", x=x, y=Y)
    assert files.load(tmp_path / "d.npz", Data(shape=(1, 5, 5), classes=2)).notices == ()


def test_notices_are_printed_with_the_population(tmp_path, capsys):
    """When it is made, and not among results."""
    import torch

    np.savez(tmp_path / "d.npz", x=X * 1e6, y=Y)
    data = {
        "name": "files",
        "path": str(tmp_path / "d.npz"),
        "split": "iid",
        "clients": 2,
        "shape": [3],
        "classes": 2,
    }
    privacy = {"unit": "none", "sampling_rate": 1.0, "delta": 1e-3}
    study = make_study({"data": data, "model": {"name": "logistic"}, "cohort": {"size": 2}, "privacy": privacy})
    make_population(study, torch.device("cpu"))
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("notice: features are not scaled, x[:, 0]")
