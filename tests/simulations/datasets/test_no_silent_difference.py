"""A table that is written, permuted, renamed, shifted or padded: what is read is what was written, or a refusal."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.privacy import DataError
from bract.privacy.plan.schema import Data
from bract.simulations.datasets import Table
from bract.simulations.datasets.shipped import files

CLASSES = 3
few = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Sheet:
    """Names and rows of text as they stand in a file, and the arrays that are meant."""

    names: list[str]
    rows: list[list[str]]
    features: np.ndarray
    labels: list[int]
    owners: list[str]

    def text(self, end: str = "\n") -> str:
        return end.join(
            ",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in [self.names, *self.rows]
        )


@st.composite
def sheets(draw: st.DrawFn) -> Sheet:
    """A table of 1 to 5 rows and 1 to 4 features, with owners, columns in any order."""
    count, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    number = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-999, 999).map(float))
    features = np.array(
        draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=count, max_size=count))
    )
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=count, max_size=count))
    owner = st.sampled_from(
        ["7", "07", "007", "1e5", "100000", "NA", "nan", "None", "True", "é", "10", "9", "-1", "a b"]
    )
    owners = draw(st.lists(owner, min_size=count, max_size=count))
    names = [f"f{number}" for number in range(width)] + ["label", "client"]
    cells = [
        [*map(repr, row), str(label), who] for row, label, who in zip(features.tolist(), labels, owners, strict=True)
    ]
    order = draw(st.permutations(range(width + 2)))
    in_order = [column for column in order if column < width]
    return Sheet(
        [names[i] for i in order],
        [[row[i] for i in order] for row in cells],
        features.astype(np.float32)[:, in_order],
        labels,
        owners,
    )


def load(content: bytes, width: int, suffix: str = "csv") -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"d.{suffix}"
        path.write_bytes(content)
        return files.load(path, Data(shape=(width,), classes=CLASSES)).train


def ranks(owners: list[str]) -> list[int]:
    """A second way to number owners: numbers by size, then words."""
    numbers = sorted((int(o), o) for o in set(owners) if o.lstrip("-").isdecimal())
    order = [o for _, o in numbers] + sorted(o for o in set(owners) if not o.lstrip("-").isdecimal())
    return [order.index(owner) for owner in owners]


def check(table: Table, sheet: Sheet) -> None:
    assert np.array_equal(table.features, sheet.features)
    assert table.labels.tolist() == sheet.labels
    assert table.clients is not None
    assert table.clients.tolist() == ranks(sheet.owners)


def renamed(sheet: Sheet, names: list[str]) -> Sheet:
    return Sheet(names, sheet.rows, sheet.features, sheet.labels, sheet.owners)


HARMLESS: dict[str, Callable[[Sheet], str]] = {
    "nothing": lambda s: s.text(),
    "CRLF": lambda s: s.text("\r\n"),
    "a mark": lambda s: "\ufeff" + s.text(),
    "empty lines": lambda s: "\n" + s.text("\n\n") + "\n\n",
    "blanks": lambda s: renamed(s, [f" {n}  " for n in s.names]).text().replace(",", " ,\t"),
    "quotes": lambda s: "\n".join(",".join(f'"{cell}"' for cell in row) for row in [s.names, *s.rows]),
    "features renamed": lambda s: renamed(s, [f"_{n[::-1]}" if n[0] == "f" else n for n in s.names]).text(),
    "features by number": lambda s: renamed(s, [n[1:] if n[0] == "f" else n for n in s.names]).text(),
    "labels as floats": lambda s: with_cells(s, lambda name, cell: f"{cell}.0" if name == "label" else cell),
}


def with_cells(sheet: Sheet, change: Callable[[str, str], str]) -> str:
    rows = [[change(name, cell) for name, cell in zip(sheet.names, row, strict=True)] for row in sheet.rows]
    return Sheet(sheet.names, rows, sheet.features, sheet.labels, sheet.owners).text()


def last(sheet: Sheet, row: list[str]) -> str:
    """The table with another last row."""
    return Sheet(sheet.names, [*sheet.rows[:-1], row], sheet.features, sheet.labels, sheet.owners).text()


def every(sheet: Sheet, change: Callable[[list[str]], list[str]]) -> str:
    """The table with every row changed, but not the names."""
    return Sheet(sheet.names, list(map(change, sheet.rows)), sheet.features, sheet.labels, sheet.owners).text()


HARMFUL: dict[str, Callable[[Sheet], str]] = {
    "all rows shifted right": lambda s: every(s, lambda row: ["0", *row]),
    "all rows shifted right by words": lambda s: every(s, lambda row: ["w", *row]),
    "all rows shifted left": lambda s: every(s, lambda row: row[1:]),
    "the last row shifted right": lambda s: last(s, ["0", *s.rows[-1]]),
    "the last row shifted left": lambda s: last(s, s.rows[-1][1:]),
    "a name too few": lambda s: renamed(s, s.names[1:]).text(),
    "a name too many": lambda s: renamed(s, ["more", *s.names]).text(),
    "rows padded": lambda s: every(s, lambda row: [*row, ""]),
    "all lines padded": lambda s: "\n".join(line + "," for line in s.text().split("\n")),
    "a line of commas": lambda s: s.text() + "\n" + "," * (len(s.names) - 1),
    "an index": lambda s: "," + s.text().replace("\n", "\n0,"),
    "no names": lambda s: "\n".join(s.text().split("\n")[1:]),
    "names twice": lambda s: s.text() + "\n" + ",".join(s.names),
    "semicolons": lambda s: s.text().replace(",", ";"),
    "one name for all features": lambda s: renamed(s, ["f", *("f" if n[0] == "f" else n for n in s.names)]).text(),
    "a second label": lambda s: renamed(s, ["label" if n == "client" else n for n in s.names]).text(),
    "a second client": lambda s: renamed(s, ["client" if n[0] == "f" else n for n in s.names]).text(),
    "no label": lambda s: renamed(s, ["kind" if n == "label" else n for n in s.names]).text(),
    "label in upper case": lambda s: renamed(s, [n.upper() if n == "label" else n for n in s.names]).text(),
    "client in upper case": lambda s: renamed(s, [n.title() if n == "client" else n for n in s.names]).text(),
    "no owners": lambda s: with_cells(s, lambda name, cell: " " if name == "client" else cell),
    "no first feature": lambda s: with_cells(s, lambda name, cell: "" if name == "f0" else cell),
    "decimal commas": lambda s: with_cells(s, lambda name, cell: "1,5" if name == "f0" else cell),
    "a digit lost": lambda s: with_cells(s, lambda name, cell: "16777217" if name == "f0" else cell),
}


@few
@given(sheets(), st.sampled_from(sorted(HARMLESS)))
def test_what_means_the_same_is_read_as_the_same(sheet: Sheet, name: str) -> None:
    check(load(HARMLESS[name](sheet).encode(), sheet.features.shape[1]), sheet)


@settings(max_examples=200, deadline=None)
@given(sheets(), st.sampled_from(sorted(HARMFUL)))
def test_what_means_something_else_is_refused(sheet: Sheet, name: str) -> None:
    text = HARMFUL[name](sheet)
    for width in range(1, sheet.features.shape[1] + 3):
        with pytest.raises(DataError) as caught:
            load(text.encode(), width)
        assert len(str(caught.value).split("\n")) == 2


@few
@given(sheets(), st.randoms(use_true_random=False))
def test_rows_in_another_order_are_the_same_records(sheet: Sheet, random) -> None:
    order = list(range(len(sheet.rows)))
    random.shuffle(order)
    moved = Sheet(
        sheet.names,
        [sheet.rows[i] for i in order],
        sheet.features[order],
        [sheet.labels[i] for i in order],
        [sheet.owners[i] for i in order],
    )
    check(load(moved.text().encode(), sheet.features.shape[1]), moved)


@few
@given(sheets(), st.booleans())
def test_all_kinds_of_files_are_read_as_the_same_table(sheet: Sheet, as_index: bool) -> None:
    width = sheet.features.shape[1]
    frame = pd.DataFrame(sheet.features, columns=[f"f{n}" for n in range(width)])
    frame["label"], frame["client"] = sheet.labels, sheet.owners
    buffer = io.BytesIO()
    (frame.set_index("client") if as_index else frame).to_parquet(buffer)
    check(load(buffer.getvalue(), width, "parquet"), sheet)
    buffer = io.BytesIO()
    np.savez(buffer, x=sheet.features, y=np.array(sheet.labels), client=np.array(sheet.owners))
    check(load(buffer.getvalue(), width, "npz"), sheet)
