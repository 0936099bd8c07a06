"""Odd .npz files: each is read as its owner meant it, or refused with two lines that name the place."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

X = np.array([[1.0, 2.0], [3.0, 4.0]])
Y = np.array([0, 1])
PLAIN = {"features": [[1, 2], [3, 4]], "labels": [0, 1]}
BYTES = np.array([[0, 255], [51, 0]], np.uint8)
SCALED = np.float32(BYTES) / np.float32(255)
WIDE = np.arange(30.0).reshape(2, 3, 5)  # two records of the shape [3, 5]

Arrays = dict[str, Any]
Wanted = dict[str, Any] | tuple[str, str]

NPZ: dict[str, tuple[Arrays, Wanted]] = {
    # how numbers are stored
    "big-endian": ({"x": X.astype(">f8"), "y": Y.astype(">i4")}, PLAIN),
    "float16": ({"x": X.astype(np.float16), "y": Y}, PLAIN),
    "long doubles": ({"x": X.astype(np.longdouble), "y": Y}, PLAIN),
    "Fortran order": ({"x": np.asfortranarray(X), "y": Y}, PLAIN),
    "not contiguous": ({"x": np.repeat(X, 2, axis=1)[:, ::2], "y": np.repeat(Y, 3)[::3]}, PLAIN),
    "uint8": ({"x": BYTES, "y": Y}, {"features": SCALED.tolist(), "labels": [0, 1]}),
    "uint16": ({"x": BYTES.astype(np.uint16), "y": Y}, {"features": BYTES.tolist(), "labels": [0, 1]}),
    "true and false": ({"x": X > 2, "y": Y}, {"features": [[0, 0], [1, 1]], "labels": [0, 1]}),
    "complex": ({"x": X + 0j, "y": Y}, ("the features are not numbers", "floats or of uint8")),
    "times": ({"x": X.astype("datetime64[s]"), "y": Y}, ("the features are not numbers", "floats or of uint8")),
    "objects": ({"x": X.astype(object), "y": Y}, ("the array 'x' of", "x.astype(str)")),
    # values
    "NaN": ({"x": np.where(X == 4, np.nan, X), "y": Y}, ("x[1] of d.npz holds a missing value", "fill in")),
    "infinity": ({"x": np.where(X == 4, -np.inf, X), "y": Y}, ("x[1] of d.npz holds an infinite", "leave out")),
    "1e300": ({"x": np.where(X == 4, 1e300, X), "y": Y}, ("x[1] of d.npz holds a value beyond 3.4e38", "scale")),
    "2^24 and one": (
        {"x": np.array([[1, 2], [3, 2**24 + 1]]), "y": Y},
        ("x[1] of d.npz holds a whole number above 2^24", "if it is an id"),
    ),
    "the largest of uint64": (
        {"x": np.array([[1, 2], [3, 2**64 - 1]], np.uint64), "y": Y},
        ("x[1] of d.npz holds a whole number above 2^24", "scale it"),
    ),
    "powers of two": (
        {"x": np.array([[-(2**63), 2**62], [2**40, 5 * 2**30]]), "y": Y},
        {"features": [[-(2**63), 2**62], [2**40, 5 * 2**30]], "labels": [0, 1]},
    ),
    # shapes
    "a column of labels": ({"x": X, "y": Y[:, None]}, ("'y' has the shape [2, 1], there are 2", "one value")),
    "one label": ({"x": X, "y": np.int64(1)}, ("'y' has the shape [], there are 2 records", "one value")),
    "one number": ({"x": np.float64(1), "y": Y}, ("holds no records", "at least one")),
    "fewer labels": ({"x": X, "y": Y[:1]}, ("'y' has the shape [1], there are 2 records", "one value")),
    "records as columns": ({"x": np.ones((2, 9)), "y": np.zeros(9, int)}, ("'y' has the shape [9]", "one value")),
    "no records": ({"x": X[:0], "y": Y[:0]}, ("holds no records", "at least one")),
    "axes of length 1": ({"x": X[:, None, :, None], "y": Y}, PLAIN),
    # labels
    "a negative label": ({"x": X, "y": Y - 1}, ("y[0] of d.npz is not one of the classes 0..2", "from 0")),
    "a huge label": ({"x": X, "y": np.array([0, 2**63], np.uint64)}, ("y[1] of d.npz is not one of", "from 0")),
    "words as labels": ({"x": X, "y": np.array(["a", "b"])}, ("'y' does not hold integers", "numpy.savez")),
    "labels as true and false": ({"x": X, "y": Y > 0}, ("the array 'y' does not hold integers", "numpy.savez")),
    "floats with one NaN": ({"x": X, "y": np.array([0, np.nan])}, ("y[1] of d.npz holds a missing value", "fill")),
    # names
    "clients in place of client": (
        {"x": X, "y": Y, "clients": Y},
        ("an array 'clients', which is none of", "rename"),
    ),
    "X in upper case": ({"X": X, "y": Y}, ("has no array 'x'", "numpy.savez")),
    "x_train": ({"x_train": X, "y_train": Y}, ("has no array 'x'", "numpy.savez")),
    "arrays without names": ({"arr_0": X, "arr_1": Y}, ("has no array 'x'", "numpy.savez")),
    "weights beside": ({"x": X, "y": Y, "w": Y}, ("an array 'w', which is none of x, y, client", "leave it out")),
    # owners
    "owners of bytes": ({"x": X, "y": Y, "client": np.array(["é".encode(), b"a"])}, PLAIN | {"clients": [1, 0]}),
    "owners of Latin-1": ({"x": X, "y": Y, "client": np.array([b"\xe9", b"a"])}, ("cannot read", "check")),
    "owners by size": ({"x": X, "y": Y, "client": np.array(["10", "9"])}, PLAIN | {"clients": [1, 0]}),
    "007 is not 7": ({"x": X, "y": Y, "client": np.array(["7", "007"])}, PLAIN | {"clients": [1, 0]}),
    "blanks of an owner": ({"x": X, "y": Y, "client": np.array([" a", "a "])}, PLAIN | {"clients": [0, 0]}),
    "unicode of an owner": ({"x": X, "y": Y, "client": np.array(["é", "e\u0301"])}, PLAIN | {"clients": [0, 0]}),
    "a blank owner": ({"x": X, "y": Y, "client": np.array(["a", " "])}, ("client[1] of d.npz is missing", "owner")),
    "owners as floats": ({"x": X, "y": Y, "client": X[:, 0]}, ("'client' does not hold integers or", "numpy.savez")),
    # the test part
    "uint8, tested on uint8": (
        {"x": BYTES, "y": Y, "x_test": BYTES[:1], "y_test": Y[:1]},
        {"features": SCALED.tolist(), "labels": [0, 1], "test": [SCALED[:1].tolist(), [0]]},
    ),
    "uint8, tested on floats": (
        {"x": BYTES, "y": Y, "x_test": X, "y_test": Y},
        ("x of", "both as one type: uint8 is divided by 255"),
    ),
    "floats, tested on uint8": ({"x": X, "y": Y, "x_test": BYTES, "y_test": Y}, ("they may be scaled", "one type")),
    "0..255, tested on 0..1": (
        {"x": BYTES.astype(int), "y": Y, "x_test": X, "y_test": Y},
        ("is int64, x_test is float64: they may be scaled differently", "one type"),
    ),
    "two sizes of floats": (
        {"x": X, "y": Y, "x_test": X.astype(np.float32), "y_test": Y},
        PLAIN | {"test": [[[1, 2], [3, 4]], [0, 1]]},
    ),
    "another shape": ({"x": X, "y": Y, "x_test": WIDE, "y_test": Y}, ("a record has 15 values [3, 5]", "set data")),
}


@pytest.mark.parametrize(("arrays", "wanted"), NPZ.values(), ids=NPZ)
def test_an_odd_npz_is_read_as_meant_or_refused(tmp_path, meant, arrays, wanted) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    meant(lambda: files.load(tmp_path / "d.npz", Data(shape=(2,), classes=3)), wanted)


@pytest.mark.parametrize(
    ("found", "shape", "is_read"),
    [
        ((3, 5), (3, 5), True),
        ((3, 5), (1, 3, 5), True),
        ((1, 3, 5, 1), (3, 5), True),
        ((15,), (3, 5), True),
        ((3, 5), (15,), True),
        ((15, 1), (3, 5), True),
        ((5, 3), (3, 5), False),
        ((5, 3, 1), (1, 3, 5), False),
        ((2, 3, 4), (6, 4), False),
        ((6, 4), (2, 3, 4), False),
        ((3, 4, 2), (2, 4, 3), False),
        ((4, 4, 3), (3, 4, 4), False),
        ((4, 4), (2, 8), False),
    ],
)
def test_axes_are_never_turned_into_others(tmp_path, refused, found, shape, is_read) -> None:
    x = np.arange(2.0 * np.prod(found)).reshape(2, *found)
    np.savez(tmp_path / "d.npz", x=x, y=Y)
    data = Data(shape=shape, classes=3)
    if is_read:
        assert np.array_equal(files.load(tmp_path / "d.npz", data).train.features, x.reshape(2, *shape))
    else:
        refused(lambda: files.load(tmp_path / "d.npz", data), str(list(found)), "")


def test_an_array_that_is_there_twice_is_refused(tmp_path, refused) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y.npy", archive.read("y.npy"))
    refused(
        lambda: files.load(tmp_path / "d.npz", Data(shape=(2,), classes=3)),
        "holds two arrays with the same name",
        "numpy.savez",
    )
