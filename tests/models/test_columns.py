"""Columns become numbers by public constants alone."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.models import columns
from bract.models.columns import LONGEST, clean, encode, number_classes, read_numbers, restore
from bract.models.tables import Unfit, adapt, prepare, read_cut
from bract.privacy.plan.schema import Column, Data

AGE = Column(scale=(20, 80), fill=50)
SEX = Column(values=("m", "f"))
TABLE = Data(
    shape=(4,), classes=2, features=("age", "sex", "dose"), labels=("no", "yes"), columns={"age": AGE, "sex": SEX}
)
cells = st.lists(
    st.one_of(st.none(), st.text(max_size=6), st.floats().map(str), st.sampled_from(["m", "f", "?", "20", "True"])),
    max_size=8,
)
rules = st.sampled_from(
    [
        None,
        AGE,
        SEX,
        Column(standardize=(3, 2)),
        Column(clip=(-1, 1), fill=0, missing=(9.0, "x")),
        Column(values=(1.0, 2.0), other="column"),
        Column(values=("m", "f"), other="zeros", fill="m"),
    ]
)


def test_scale_maps_the_bounds_to_minus_one_and_one() -> None:
    numbers, known = encode(["20", "80", "50", "110"], AGE)
    assert numbers.tolist() == [[-1], [1], [0], [2]]
    assert known.all()


def test_clip_comes_before_scale() -> None:
    assert encode(["110", "-5"], Column(clip=(20, 80), scale=(20, 80)))[0].tolist() == [[1], [-1]]


def test_standardize_uses_the_mean_and_deviation_of_the_plan() -> None:
    assert encode(["5", "1"], Column(standardize=(3, 2)))[0].tolist() == [[1], [-1]]


@pytest.mark.parametrize("cell", ["", " ", "NA", "n/a", "NaN", "null", "?", None, "0", "0.0"])
def test_a_missing_cell_is_filled(cell: str | None) -> None:
    """The last two are missing because the plan says so."""
    numbers, known = encode([cell, "80"], Column(scale=(20, 80), fill=50, missing=(0.0,)))
    assert numbers.tolist() == [[0], [1]]
    assert known.all()


def test_a_missing_cell_without_fill_is_not_known() -> None:
    numbers, known = encode(["1", "", "inf", "1e400", "x"], None)
    assert known.tolist() == [True, False, False, False, False]
    assert numbers.tolist() == [[1], [0], [0], [0], [0]]


def test_words_become_one_number_each() -> None:
    assert encode(["f", " m "], SEX)[0].tolist() == [[0, 1], [1, 0]]
    assert encode(["1", "1.0", "2"], Column(values=(1.0, 2.0)))[0].tolist() == [[1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("other", "wanted", "known"),
    [(None, [0, 0], False), ("zeros", [0, 0], True), ("column", [0, 0, 1], True)],
)
def test_another_word_is_refused_zeros_or_a_column(other: str | None, wanted: list[int], known: bool) -> None:
    numbers, found = encode(["diverse"], Column.model_validate({"values": ("m", "f"), "other": other}))
    assert (numbers.tolist(), found.tolist()) == ([wanted], [known])


@given(cells, rules)
def test_a_record_depends_on_itself_alone(column: list[str | None], rule: Column | None) -> None:
    """No statistic of the data is taken: each cell alone becomes what it becomes among others; nothing is raised."""
    numbers, known = encode(column, rule)
    assert np.isfinite(numbers).all()
    assert numbers.shape == (len(column), 1 if rule is None else rule.width)
    for row, cell in enumerate(column):
        alone, is_known = encode([cell], rule)
        assert np.array_equal(alone[0], numbers[row])
        assert is_known[0] == known[row]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_are_read_exactly(values: list[float]) -> None:
    assert read_numbers([repr(value) for value in values]).tolist() == values


def test_classes_are_places_in_the_list() -> None:
    numbers, known = number_classes(["yes", "no", "maybe", None], ("no", "yes"))
    assert (numbers.tolist(), known.tolist()) == ([1, 0, 0, 0], [True, True, False, False])


@pytest.mark.parametrize("rule", [None, Column(scale=(25, 346)), Column(standardize=(152, 77))])
def test_restore_is_the_inverse(rule: Column | None) -> None:
    scores = ["25", "152", "346"]
    assert restore(encode(scores, rule)[0][:, 0], rule) == pytest.approx([25, 152, 346], rel=1e-6)


@pytest.fixture
def sheet(tmp_path):
    """A function: write these lines to a .csv file and return it."""

    def write(*lines: str):
        (tmp_path / "d.csv").write_bytes("\n".join(lines).encode("utf-8", errors="surrogateescape"))
        return tmp_path / "d.csv"

    return write


def test_a_table_is_read_by_the_names_of_its_columns(sheet) -> None:
    """The order of the columns in the file, and further columns, make no difference."""
    one = prepare(read_cut(sheet("age,sex,dose,label", "80,m,2,yes")), TABLE)
    two = prepare(read_cut(sheet("label,dose,extra,sex,age", "yes,2,?,m,80")), TABLE)
    assert one.features.tolist() == two.features.tolist() == [[1, 1, 0, 2]]
    assert one.labels.tolist() == two.labels.tolist() == [1]


@pytest.mark.parametrize("line", ['80,"m,2,yes', "80,m,2", "80,m,2,yes,", "\udcff,m,2,yes", "80,x,2,yes", "80,m,2,?"])
def test_a_fault_on_a_line_reaches_no_other_record(sheet, line: str) -> None:
    found = prepare(read_cut(sheet("age,sex,dose,label", "20,f,1,no", line, "80,m,2,yes")), TABLE)
    assert found.known.tolist() == [True, False, True]
    assert found.features[[0, 2]].tolist() == [[-1, 0, 1, 1], [1, 1, 0, 2]]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_no_line_raises_and_each_is_one_record(tmp_path_factory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "d.csv"
    path.write_bytes("\n".join(["age,sex,dose,label", *lines]).encode())
    found = prepare(read_cut(path), TABLE)
    assert len(found.known) == sum(bool(line.strip()) for line in lines)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"])), min_size=4, max_size=4
        )
    )
)
def test_cells_are_those_of_the_csv_module(tmp_path_factory, rows: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["age", "sex", "dose", "label"], *rows])
    path = tmp_path_factory.mktemp("any") / "d.csv"
    path.write_bytes(buffer.getvalue().encode())
    cut = read_cut(path)
    assert [list(row) for row in zip(*cut.cells.values(), strict=True)] == rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": None}, "does not name the features"),
        ({"features": ("age", "sex", "weight")}, "no column 'weight'"),
        ({"label": "ill"}, "no column 'ill'"),
        ({"shape": (5,)}, "give 4 numbers"),
    ],
)
def test_a_table_that_lacks_the_plans_columns_is_refused(sheet, change: dict, words: str) -> None:
    cut = read_cut(sheet("age,sex,dose,label", "80,m,2,yes"))
    with pytest.raises(Unfit, match=words):
        prepare(cut, TABLE.model_copy(update=change))


def test_arrays_are_rescaled_once() -> None:
    data = Data(shape=(2,), columns={"*": Column(scale=(0, 10))})
    raw = np.array([[0, 10], [5, np.nan]], dtype=np.float32)
    numbers, known = adapt(raw, data, None)
    assert (numbers.tolist(), known.tolist()) == ([[-1, 1], [0, 0]], [True, False])
    assert adapt(numbers, data, data.transforms)[0].tolist() == numbers.tolist()
    with pytest.raises(Unfit, match="other transforms"):
        adapt(numbers, Data(shape=(2,)), data.transforms)
    with pytest.raises(Unfit, match="names columns of a table"):
        adapt(raw, TABLE, None)


def test_the_rules_are_the_columns_of_a_plan() -> None:
    """`models` knows the plan's class only by a protocol."""
    assert {name for name in dir(columns.Rule) if not name.startswith("_")} <= {*Column.model_fields}


@pytest.mark.parametrize("number", ["7", "7.", "7.5", ".5", "+7e2", "-7.E-1", "07.50"])
def test_a_number_is_read_in_every_decimal_notation(number: str) -> None:
    assert read_numbers([number, "x"])[0] == float(number)


def test_a_long_cell_takes_no_longer_than_its_length() -> None:
    """Otherwise one record decides whether a device answers in time. By the square, this takes many minutes."""
    digits, marks = "1" * 10**6 + "x", "a" + "\u0316\u0301" * (10**6)
    assert np.isnan(read_numbers([digits])).all()
    assert not number_classes([digits, marks], ["yes"])[1].any()


def test_a_long_word_equals_itself() -> None:
    word = "\u0316\u0301" * LONGEST
    assert number_classes([f" {word}"], ["no", word])[0].tolist() == [1]
    assert clean("e\u0301" * LONGEST) == "e\u0301" * LONGEST
