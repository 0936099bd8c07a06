"""The .npz files of devices and servers: read as a simulation reads them, or refused by name, type or shape alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.privacy import DataError
from bract.privacy.npz import read_arrays

X = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
Y = np.array([0, 1])
TOKENS = np.array([[0, 1], [2, 3]], np.uint8)


def write(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_arrays(path)
    what, hint = str(caught.value).split("\n")
    assert hint == "hint: give an .npz file with the arrays x and y and no others, as `bract partition` writes"
    return what


@pytest.mark.parametrize("kind", [">f8", "f2", "f4", "longdouble", ">i2", "u2", "i8"])
def test_numbers_are_read_as_they_are_whatever_their_type(tmp_path: Path, kind: str) -> None:
    x, y = read_arrays(write(tmp_path, x=np.asfortranarray(X.astype(kind)), y=Y.astype(">i2")))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)


def test_uint8_is_scaled_on_a_device_as_in_a_simulation(tmp_path: Path) -> None:
    x, _ = read_arrays(write(tmp_path, x=np.array([[[0, 51, 255]]], np.uint8), y=Y[:1]))
    np.testing.assert_allclose(x, [[[0, 0.2, 1]]], rtol=1e-6)


def test_tokens_of_uint8_are_not_scaled(tmp_path: Path) -> None:
    x, y = read_arrays(write(tmp_path, x=TOKENS, y=TOKENS[::-1]))
    assert (x.dtype, y.dtype) == (np.int64, np.int64)
    assert np.array_equal(x, TOKENS)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": X}, "its arrays are x"),
        ({"y": Y}, "its arrays are y"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "its arrays are x, x_test, y, y_test"),
        ({"x": X, "y": Y, "client": Y}, "its arrays are client, x, y"),
        ({"X": X, "Y": Y}, "its arrays are X, Y"),
        ({"x": X, "y": Y[:1]}, "x has the shape [2, 1, 2], y has [1]"),
        ({"x": X, "y": Y[:, None]}, "x has the shape [2, 1, 2], y has [2, 1]"),
        ({"x": X[0, 0], "y": Y}, "x has the shape [2], y has [2]"),
        ({"x": X + 0j, "y": Y}, "x or y holds no numbers"),
        ({"x": X, "y": Y > 0}, "x or y holds no numbers"),
        ({"x": X.astype(str), "y": Y}, "x or y holds no numbers"),
        ({"x": TOKENS[:0].astype(float), "y": TOKENS[:0]}, "x has the shape [0, 2], y has [0, 2]"),
    ],
)
def test_a_file_of_other_arrays_is_refused_by_what_they_are(tmp_path: Path, arrays: Any, fault: str) -> None:
    path = write(tmp_path, **arrays)
    assert refusal(path) == f"error: cannot read the data file {path}: {fault}"


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path, more = write(tmp_path, x=X, y=Y), io.BytesIO()
    np.save(more, Y[::-1])
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y.npy", more.getvalue())
    assert "its arrays are x, y, y" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300, 2.0**24 + 1, -1.0])
def test_no_value_of_a_record_decides_if_its_file_is_read(tmp_path: Path, value: float) -> None:
    """A refusal is seen by the server: it may not tell what a record holds."""
    labels = np.array([0, -(2**40) if np.isnan(value) else 2**40])
    x, y = read_arrays(write(tmp_path, x=np.where(X == 4, value, X), y=labels))
    assert len(x) == len(y) == 2
