"""Windows, parts, separate test files, what is held out, and folders of the package `datasets`."""

from __future__ import annotations

import numpy as np
import pytest

from bract.privacy.plan.schema import Column, Data
from bract.simulations.datasets import Source, Table, holdout
from bract.simulations.datasets.shipped import files


def load(path, **keys):
    return files.load(path, Data(path=str(path), **keys))


@pytest.fixture
def steps(tmp_path):
    """A table of 3 people with 10 steps each; the label changes after 6."""
    lines = [f"{who},{t},{10 * t},{int(t >= 6)}" for who in "abc" for t in range(10)]
    (tmp_path / "d.csv").write_text("\n".join(["client,x,y,label", *lines]))
    return tmp_path / "d.csv"


def test_windows_are_of_one_client_and_one_label(steps) -> None:
    table = load(steps, shape=(4, 2), classes=2, window=4, stride=1).train
    assert table.features.shape == (12, 4, 2)
    assert table.labels.tolist() == [0, 0, 0, 1] * 3
    assert table.clients.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table.features[0].tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    assert len(load(steps, shape=(4, 2), classes=2, window=4).train) == 6


def test_a_window_longer_than_any_run_is_refused(steps, refused) -> None:
    refused(lambda: load(steps, shape=(7, 2), classes=2, window=7), "no 7 lines", "lower data.window")


def test_a_column_says_which_rows_are_for_testing(tmp_path, refused) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,label,use\n1,0,train\n2,1,val\n3,1,Training\n")
    source = load(path, shape=(1,), classes=2, part="use")
    assert source.train.features.tolist() == [[1], [3]]
    assert source.test.features.tolist() == [[2]]
    path.write_text("x,label,use\n1,0,train\n2,1,later\n")
    refused(
        lambda: load(path, shape=(1,), classes=2, part="use"), "'use', row 2 of d.csv is neither", "train or test"
    )


def test_windows_stay_within_a_part(tmp_path) -> None:
    lines = [f"{t},0,{'train' if t < 5 else 'test'}" for t in range(8)]
    (tmp_path / "d.csv").write_text("\n".join(["x,label,use", *lines]))
    source = load(tmp_path / "d.csv", shape=(2, 1), classes=1 + 1, window=2, part="use")
    assert source.train.features[:, :, 0].tolist() == [[0, 1], [2, 3]]
    assert source.test.features[:, :, 0].tolist() == [[5, 6]]


def test_a_separate_file_is_the_test_part(tmp_path) -> None:
    for name, rows in (("d", "1,no\n2,yes\n"), ("e", "3,yes\n")):
        (tmp_path / f"{name}.csv").write_text(f"x,label\n{rows}")
    keys = {"shape": (1,), "classes": 2, "labels": ("no", "yes"), "test": str(tmp_path / "e.csv")}
    source = load(tmp_path / "d.csv", **keys, columns={"x": Column(scale=(1, 3))})
    assert (source.train.features.tolist(), source.test.features.tolist()) == ([[-1], [0]], [[1]])
    assert source.test.labels.tolist() == [1]


def test_records_of_each_client_are_held_out() -> None:
    clients = np.repeat([0, 1, 2], [9, 30, 1])
    table = Table(np.arange(40, dtype=np.float32)[:, None], np.zeros(40, np.int64), clients)
    train, test = holdout(Source(table, None), "natural", 1 / 3, 0, "record")
    assert np.bincount(test.clients).tolist() == [3, 10]
    assert np.bincount(train.clients).tolist() == [6, 20, 1]
    assert sorted([*train.features[:, 0], *test.features[:, 0]]) == list(range(40))
    again = holdout(Source(table, None), "natural", 1 / 3, 0, "record")[1]
    other = holdout(Source(table, None), "natural", 1 / 3, 1, "record")[1]
    assert np.array_equal(again.features, test.features)
    assert not np.array_equal(other.features, test.features)


def test_whole_clients_are_held_out_of_any_split() -> None:
    table = Table(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), np.array([0, 1, 1, 2]))
    train, test = holdout(Source(table, None), "iid", 0.4, 0, "client")
    assert (train.clients.tolist(), test.clients.tolist()) == ([0, 1, 1], [2])


@pytest.mark.parametrize("parts", [False, True])
def test_a_folder_of_datasets_is_a_table(tmp_path, parts) -> None:
    from datasets import Dataset, DatasetDict

    made = Dataset.from_dict({"age": [20.0, 80.0], "sex": ["m", "f"], "label": [0, 1]})
    (DatasetDict({"train": made, "test": made}) if parts else made).save_to_disk(str(tmp_path / "d"))
    rules = {"age": Column(scale=(20, 80)), "sex": Column(values=("m", "f"))}
    source = load(tmp_path / "d", shape=(3,), classes=2, columns=rules)
    assert source.train.features.tolist() == [[-1, 1, 0], [1, 0, 1]]
    assert (source.test is not None) == parts


def test_keys_of_another_kind_of_data_are_refused(tmp_path, refused) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    refused(
        lambda: load(tmp_path / "d.npz", shape=(3,), classes=2, label="ill"), "data.label means nothing", "columns"
    )
