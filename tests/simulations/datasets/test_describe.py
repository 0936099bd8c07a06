"""What a file or folder holds, before there is a plan."""

from __future__ import annotations

import numpy as np
import pytest

from bract.simulations.datasets import describe


def test_a_table_is_described_by_its_columns(tmp_path) -> None:
    (tmp_path / "d.csv").write_text("id,age,sex,client,label\n1,20,m,A,no\n2,,f,B,yes\n3,80,m,A,no\n3,80,m,A,no\n")
    found = describe(tmp_path / "d.csv")
    assert (found.kind, found.records, found.label, found.client) == ("table", 4, "label", "client")
    assert (found.classes, found.clients, found.duplicates) == (("no", "yes"), 2, 1)
    age, sex = found.column("age"), found.column("sex")
    assert (age.kind, age.missing, age.low, age.high, age.mean, age.whole) == ("number", 1, 20, 80, 60, True)
    assert (sex.kind, sex.words, sex.distinct) == ("word", ("f", "m"), 2)
    assert np.isnan(sex.mean)


def test_parquet_is_described_as_csv(tmp_path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1.5, None], "label": [0, 1]})
    frame.to_parquet(tmp_path / "d.parquet")
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert describe(tmp_path / "d.parquet") == describe(tmp_path / "d.csv")


def test_arrays_are_described_by_their_shape(tmp_path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 2)), y=np.array([0, 2, 2, 0]), client=np.array([5, 5, 6, 6]))
    found = describe(tmp_path / "d.npz")
    assert (found.kind, found.records, found.shape, found.classes) == ("arrays", 4, (3, 2), ("0", "2"))
    assert (found.clients, found.numbers, found.has_test) == (2, False, False)


def test_pictures_and_texts_are_described(tmp_path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "p" / label).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "p" / label / "a.png")
    assert describe(tmp_path / "p").classes == ("cat", "dog")
    (tmp_path / "t.txt").write_text("abba")
    assert describe(tmp_path / "t.txt").characters == ("a", "b")
    (tmp_path / "d.jsonl").write_text('{"text": "ab", "client": "x"}\n{"text": "c", "client": "y"}\n')
    found = describe(tmp_path / "d.jsonl")
    assert (found.records, found.clients, found.characters) == (2, 2, ("a", "b", "c"))


@pytest.mark.parametrize("name", ["none.csv", "d.xlsx"])
def test_another_file_is_refused(tmp_path, refused, name) -> None:
    (tmp_path / "d.xlsx").write_bytes(b"x")
    refused(lambda: describe(tmp_path / name), name, "folder")
