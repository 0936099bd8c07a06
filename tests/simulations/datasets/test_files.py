"""The .npz, .csv and .parquet readers, and what all readers refuse."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

X = np.arange(24, dtype=float).reshape(4, 6)
Y = np.array([0, 2, 1, 0])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def npz(tmp_path):
    return lambda **arrays: save(tmp_path / "d.npz", **arrays)


@pytest.fixture
def csv(tmp_path):
    def write(text):
        (tmp_path / "d.csv").write_text(text)
        return tmp_path / "d.csv"

    return write


def read(path, shape=(6,), classes=3):
    return files.load(path, Data(shape=shape, classes=classes))


class TestAnyKind:
    def test_no_path(self, refused):
        refused(lambda: read(None), "needs a path", "set data.path")

    def test_missing(self, refused, tmp_path):
        refused(lambda: read(tmp_path / "no.csv"), "no.csv does not exist", "set data.path")

    @pytest.mark.parametrize("name", ["d.xlsx", "d"])
    def test_unknown_suffix(self, refused, tmp_path, name):
        (tmp_path / name).write_text("x")
        refused(lambda: read(tmp_path / name), "is of an unknown kind", ".npz, .csv, .parquet")

    @pytest.mark.parametrize("name", ["d.npz", "d.csv", "d.parquet"])
    def test_empty(self, refused, tmp_path, name):
        (tmp_path / name).touch()
        refused(lambda: read(tmp_path / name), f"{name} holds no records", "at least one record")

    @pytest.mark.parametrize("name", ["d.npz", "d.parquet"])
    def test_corrupt(self, refused, tmp_path, name):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really" * 9)
        refused(lambda: read(tmp_path / name), f"cannot read {tmp_path / name} (", "complete")

    def test_truncated_npz(self, refused, npz):
        path = npz(x=X, y=Y)
        path.write_bytes(path.read_bytes()[:-40])
        refused(lambda: read(path), "cannot read", "complete")

    def test_impossible_name(self, refused):
        refused(lambda: read(Path("x" * 5000)), "cannot read", "check")


class TestNpz:
    def test_round_trip(self, npz):
        source = read(npz(x=X, y=Y, client=np.array(["b", "a", "b", "c"])), (2, 3))
        assert source.test is None
        assert source.train.features.dtype == np.float32
        assert np.array_equal(source.train.features, X.reshape(4, 2, 3))
        assert np.array_equal(source.train.labels, Y)
        assert source.train.clients.tolist() == [1, 0, 1, 2]

    def test_clients_may_be_any_integers(self, npz):
        assert read(npz(x=X, y=Y, client=np.array([70, -3, 70, 9]))).train.clients.tolist() == [2, 0, 2, 1]

    def test_clients_may_be_absent(self, npz):
        assert read(npz(x=X, y=Y)).train.clients is None

    def test_uint8_is_scaled_and_other_integers_are_not(self, npz):
        pixels = np.array([[0, 51, 255]], dtype=np.uint8)
        one = np.array([0])
        scaled = read(npz(x=pixels, y=one), (1, 1, 3)).train.features
        np.testing.assert_allclose(scaled, [[[[0, 0.2, 1]]]], rtol=1e-6)
        assert read(npz(x=pixels.astype(int), y=one), (3,)).train.features.tolist() == [[0, 51, 255]]

    def test_test_part(self, npz):
        source = read(npz(x=X, y=Y, x_test=X[:2], y_test=Y[:2], client=Y))
        assert np.array_equal(source.test.features, X[:2])
        assert source.test.clients is None

    def test_floats_are_numbers_to_predict(self, npz):
        source = read(npz(x=X, y=Y - 0.5, x_test=X[:2], y_test=Y[:2], client=Y), classes=1)
        assert source.train.labels.dtype == source.test.labels.dtype == np.float32
        assert source.train.labels.tolist() == [-0.5, 1.5, 0.5, -0.5]
        assert source.test.labels.tolist() == [0, 2]

    def test_pickled(self, refused, npz):
        path = npz(x=X, y=Y, client=np.array(["a", "b", "a", None], dtype=object))
        refused(lambda: read(path), "the array 'client'", "client.astype(str)")
        refused(lambda: read(path), "is pickled, which could run code", "fixed-width strings")

    def test_bare_pickle_and_npy(self, refused, tmp_path):
        path = tmp_path / "d.npz"
        pd.to_pickle({"x": 1}, path)
        refused(lambda: read(path), "cannot read", "check")
        with io.BytesIO() as buffer:
            np.save(buffer, X)
            path.write_bytes(buffer.getvalue())
        refused(lambda: read(path), "is not an .npz file", "numpy.savez")

    @pytest.mark.parametrize(
        ("arrays", "what", "hint"),
        [
            ({"x": X}, "has no array 'y'", "numpy.savez"),
            ({"y": Y}, "has no array 'x'", "numpy.savez"),
            ({"x": X, "y": Y, "x_test": X}, "has no array 'y_test'", "numpy.savez"),
            ({"x": X, "y": Y, "y_test": Y}, "has no array 'x_test'", "numpy.savez"),
            ({"x": X[:0], "y": Y[:0]}, "holds no records", "at least one"),
            ({"x": np.float64(1), "y": Y}, "holds no records", "at least one"),
            ({"x": X, "y": Y[:2]}, "'y' has the shape [2], there are 4 records", "one value for each record"),
            ({"x": X, "y": Y[:, None]}, "'y' has the shape [4, 1]", "one value for each record"),
            ({"x": X, "y": Y, "client": Y[:3]}, "'client' has the shape [3]", "one value for each record"),
            ({"x": X, "y": Y.astype(str)}, "'y' does not hold integers", "numpy.savez"),
            ({"x": X, "y": Y / 2, "x_test": X, "y_test": Y > 1}, "'y_test' does not hold numbers", "numpy.savez"),
            ({"x": X, "y": Y, "x_test": X, "y_test": Y / 2}, "'y_test' does not hold integers", "numpy.savez"),
            (
                {"x": X, "y": np.where(Y == 2, np.nan, Y)},
                "y[1] of d.npz holds a missing value",
                "missing and infinite",
            ),
            ({"x": X, "y": Y * 1e300}, "y[1] of d.npz holds a value beyond 3.4e38", "scale"),
            ({"x": X, "y": Y[:, None] / 2}, "'y' has the shape [4, 1]", "one value for each record"),
            ({"x": X, "y": Y, "client": X[:, 0]}, "'client' does not hold integers or strings", "numpy.savez"),
            ({"x": X, "y": Y + 1}, "y[1] of d.npz is not one of the classes 0..2", "number the classes from 0"),
            ({"x": X, "y": Y - 1}, "y[0] of d.npz is not one of the classes 0..2", "data.classes"),
            ({"x": X[:, :5], "y": Y}, "has 5 values [5], the plan's shape [6] needs 6", "set data.shape"),
            ({"x": X.astype(str), "y": Y}, "the features are not numbers", "floats or of uint8"),
            ({"x": X.astype(complex), "y": Y}, "the features are not numbers", "floats or of uint8"),
            (
                {"x": np.where(X == 13, np.nan, X), "y": Y},
                "x[2] of d.npz holds a missing value",
                "missing and infinite",
            ),
            ({"x": X * 1e300, "y": Y}, "x[0] of d.npz holds a value beyond 3.4e38", "scale"),
            ({"x": X, "y": Y, "x_test": X, "y_test": Y + 9}, "y_test[0] of d.npz is not one", "data.classes"),
        ],
    )
    def test_faults(self, refused, npz, arrays, what, hint):
        refused(lambda: read(npz(**arrays)), what, hint)

    def test_channels_last(self, refused, npz):
        path = npz(x=np.zeros((2, 4, 4, 3)), y=np.zeros(2, int))
        refused(lambda: read(path, (3, 4, 4)), "the channels come last [4, 4, 3]", "x.transpose(0, 3, 1, 2)")
        assert read(npz(x=np.zeros((2, 4, 4, 1)), y=np.zeros(2, int)), (1, 4, 4)).train.features.shape == (2, 1, 4, 4)


class TestFrames:
    @pytest.fixture
    def frame(self):
        return pd.DataFrame({"b": [1, 2, 3], "client": ["z", "NA ", "z"], "a": [0.5, 1.5, 2.5], "label": [1, 0, 2]})

    @pytest.mark.parametrize("suffix", ["csv", "parquet", "CSV"])
    def test_round_trip(self, tmp_path, frame, suffix):
        path = tmp_path / f"d.{suffix}"
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
        table = read(path, (2,)).train
        assert table.features.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
        assert table.labels.tolist() == [1, 0, 2]
        assert table.clients.tolist() == [1, 0, 1]

    def test_clients_by_number_or_absent(self, csv):
        assert read(csv("a,label,client\n1,0,30\n2,1,4\n"), (1,)).train.clients.tolist() == [1, 0]
        assert read(csv("a,label\n1,0\n2,1\n"), (1,)).train.clients is None

    def test_nullable_and_true_false_columns(self, tmp_path):
        frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [True, False], "label": [0, 1]})
        frame.to_parquet(tmp_path / "d.parquet")
        assert read(tmp_path / "d.parquet", (2,)).train.features.tolist() == [[1, 1], [2, 0]]

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_a_target_in_place_of_a_label_is_a_number(self, tmp_path, frame, suffix):
        path, frame = tmp_path / f"d.{suffix}", frame.rename(columns={"label": "target"})
        frame["target"] -= 0.5
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
        table = read(path, (2,), 1).train
        assert table.has_numbers
        assert table.labels.tolist() == [0.5, -0.5, 1.5]
        assert table.features.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
        assert table.clients.tolist() == [1, 0, 1]

    @pytest.mark.parametrize(
        ("text", "what", "hint"),
        [
            ("a,b\n1,2\n", "has no column 'label'", "name the columns"),
            ("a,label\n", "holds no records", "at least one"),
            ("a,label\n1,0\nlots,1\n", "column 'a', row 2 of d.csv is missing or not a finite", "a number"),
            ("a,label\n1,0\n,1\n", "column 'a', row 2 of d.csv is missing", "a number"),
            ("a,label\ninf,0\n1,1\n", "column 'a', row 1 of d.csv is missing or not a finite", "a number"),
            ("a,label\n1e300,0\n", "column 'a', row 1 of d.csv holds a value beyond 3.4e38", "scale"),
            ("a,label,target\n1,0,0.5\n", "has a column 'label' and a column 'target'", "rename one"),
            ("a,target\n1,0\n1,\n", "column 'target', row 2 of d.csv is missing", "a number"),
            ("a,target\n1,0\n1,1e300\n", "column 'target', row 2 of d.csv holds a value beyond 3.4e38", "scale"),
            ("a,label\n1,\n", "column 'label', row 1 of d.csv is missing", "a number"),
            ("a,label\n1,cat\n", "column 'label', row 1 of d.csv is missing or not", "a number"),
            ("a,label\n1,0\n1,0.5\n", "column 'label', row 2 of d.csv is not one of the classes 0..2", "classes"),
            ("a,label\n1,3\n", "column 'label', row 1 of d.csv is not one of the classes 0..2", "data.classes"),
            ("a,label\n1,-1\n", "column 'label', row 1 of d.csv is not one of the classes", "from 0"),
            ("a,label,client\n1,0,x\n1,0,\n", "column 'client', row 2 of d.csv is missing", "owner"),
            ("a,b,label\n1,2,0\n", "a record has 2 values [2], the plan's shape [1] needs 1", "not features"),
            ("label\n1\n", "a record has 0 values [0]", "data.shape"),
            ("a,label\n1,0,7\n", "line 2 of d.csv has 3 values, the first line names 2", "name every column"),
            ("a,label\n1,0\n1,0,7\n", "line 3 of d.csv has 3 values", "quotes"),
            ('a,label\n1,"0\n', "line 2 of d.csv is not CSV: a quote", "close every quote"),
        ],
    )
    def test_faults(self, refused, csv, text, what, hint):
        refused(lambda: read(csv(text), (1,)), what, hint)

    def test_errors_do_not_quote_cells(self, csv):
        with pytest.raises(Exception, match="row 1") as caught:
            read(csv("a,label\nsecret,0\n"), (1,))
        assert "secret" not in str(caught.value)

    def test_wrong_encoding(self, refused, tmp_path):
        (tmp_path / "d.csv").write_bytes(b"a,label\n\xff\xfe,0\n")
        refused(lambda: read(tmp_path / "d.csv", (1,)), "line 2 of d.csv is not UTF-8", "save the file as UTF-8")

    def test_dates_are_no_numbers(self, refused, tmp_path):
        frame = pd.DataFrame({"born": pd.to_datetime(["2001-01-01"]), "label": [0]})
        frame.to_parquet(tmp_path / "d.parquet")
        refused(lambda: read(tmp_path / "d.parquet", (1,)), "the column 'born'", "leave the column out")

    def test_missing_in_parquet(self, refused, tmp_path):
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "label": [0, 1]}).to_parquet(tmp_path / "d.parquet")
        refused(lambda: read(tmp_path / "d.parquet", (1,)), "column 'a', row 2 of d.parquet is missing", "number")
