"""What `bract new` makes of a table, arrays and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bract.privacy.errors import DataError
from bract.simulations.new.look import Look, look_at

HEAD = "hospital,age,sex,chest,label\n"


def table(folder: Path, text: str) -> str:
    path = folder / "data.csv"
    path.write_text(text, "utf-8")
    return str(path)


def patients(folder: Path, count: int = 40) -> Look:
    rows = [
        f"h{row % 4},{'' if row == 7 else 30 + row % 23},{'mf'[row % 2]},{row % 4},{'sick' if row % 3 else 'well'}"
        for row in range(count)
    ]
    return look_at(table(folder, HEAD + "\n".join(rows)))


def test_a_table_with_words_and_holes_is_described(tmp_path: Path) -> None:
    data = patients(tmp_path).data
    assert (data["label"], data["client"]) == ("label", "hospital")
    assert data["labels"] == ["sick", "well"]
    assert data["columns"]["sex"]["values"] == ["f", "m"]
    assert data["columns"]["chest"]["values"] == [0, 1, 2, 3]
    assert data["shape"] == [1 + 2 + 4]


def test_a_hole_is_filled_by_the_median_and_is_noticed(tmp_path: Path) -> None:
    look = patients(tmp_path)
    assert look.data["columns"]["age"]["fill"] == pytest.approx(40, abs=3)
    assert any("'age' misses 1 of 40" in notice for notice in look.notices)


def test_it_says_which_column_is_the_label(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, "a,b\n1,x\n2,y\n4,x\n"))
    assert look.data["label"] == "b"
    assert any("the last column, 'b'" in notice for notice in look.notices)


def test_an_id_and_a_constant_are_left_out_and_noticed(tmp_path: Path) -> None:
    rows = "\n".join(f"{row},5,{row % 3}.5,{row % 2}" for row in range(100, 130))
    look = look_at(table(tmp_path, f"patient_no,unit,dose,label\n{rows}"))
    assert look.data["features"] == ["dose"]
    assert len(look.notices) >= 3


def test_repeated_records_are_noticed(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, "a,label\n1,0\n2,1\n1,0\n"))
    assert any("1 records are repeated" in notice for notice in look.notices)


def test_a_label_of_many_numbers_is_a_number_to_predict(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, "a,label\n" + "\n".join(f"{row % 7},{row}.25" for row in range(30))))
    assert look.data["classes"] == 1
    assert "standardize" in look.data["columns"]["label"]


def test_constants_of_the_data_are_said_not_to_be_public(tmp_path: Path) -> None:
    assert patients(tmp_path).statistics


def test_public_computes_no_constant(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, "a,label\n1,0\n2.5,1\n9,0\n"), public=True)
    assert not look.statistics
    assert "columns" not in look.data


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,label\n1,x\n2,x\n", "one value in all records"),
        ("a,label\n1,x\n2,\n", "missing in 1 records"),
        ("label,a\n", "no records"),
        ("label,a\nx,1\ny,1\n", "no column to learn from"),
    ],
)
def test_a_table_that_teaches_nothing_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        look_at(table(tmp_path, text))


@pytest.mark.parametrize("option", ["label", "client"])
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(DataError, match="has no column 'colour'"):
        look_at(table(tmp_path, "a,label\n1,0\n2,1\n"), **{option: "colour"})


@pytest.mark.parametrize("place", ["nowhere.csv", "data/set", "no-such-set", "files", "notes.docx"])
def test_what_is_no_data_is_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.docx").write_bytes(b"x")
    with pytest.raises(DataError):
        look_at(place)


def test_arrays_far_from_one_are_scaled(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(500, 90, (50, 16, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(50) % 4)
    look = look_at(str(tmp_path / "a.npz"))
    assert look.data["shape"] == [16, 3]
    assert look.data["classes"] == 4
    assert look.data["columns"]["*"]["standardize"] == pytest.approx([500, 90], rel=0.1)


def test_pictures_have_their_median_size_and_their_colours(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("RGB", (20 + number, 30)).save(tmp_path / label / f"{number}.png")
    look = look_at(str(tmp_path))
    assert look.data["shape"] == [3, 30, 21]
    assert look.data["labels"] == ["cat", "dog"]


def test_a_text_has_its_characters_as_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("to be or not to be\n" * 60)
    look = look_at(str(tmp_path / "poem.txt"))
    assert look.data["vocabulary"] == ["\n", " ", "b", "e", "n", "o", "r", "t", "<unknown>"]
    assert look.data["classes"] == 9
    assert look.statistics


def test_a_text_takes_no_label(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("to be or not to be\n" * 60)
    with pytest.raises(DataError, match="its label is the next character"):
        look_at(str(tmp_path / "poem.txt"), label="x")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.eye(4), "y": np.array(list("abab"))}, "y of .* does not hold numbers"),
        ({"x": np.full((4, 2), np.nan), "y": np.array([0, 1, 0, 1])}, "x of .* not finite"),
        ({"x": np.ones((4, 2)), "y": np.array([0, 1, 0, 1])}, "all numbers in x"),
        ({"x": np.float32(3), "y": np.int64(3)}, "x of .* has the shape"),
    ],
)
def test_arrays_that_cannot_be_measured_are_named(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(DataError, match=said):
        look_at(str(tmp_path / "some.npz"))


def test_files_that_are_no_arrays_or_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match="no arrays x and y"):
        look_at(str(tmp_path / "empty.npz"))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.png").write_text("no picture")
    with pytest.raises(DataError, match=r"1\.png cannot be read as a picture"):
        look_at(str(tmp_path / "photos"))


def test_a_column_with_the_name_of_all_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a column named"):
        look_at(table(tmp_path, "a,*,label\n1,2,0\n2,3,1\n"))


def test_a_table_of_codes_alone_is_not_public(tmp_path: Path) -> None:
    rows = "\n".join(f"{row % 3},{row % 2}" for row in range(30))
    assert look_at(table(tmp_path, "ward,label\n" + rows)).statistics
