"""Odd .parquet files: each is read as its owner meant it, or refused with two lines that name the place."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

CLASSES = 3
PLAIN = {"features": [[1, 2], [3, 4]], "labels": [0, 1]}
OWNED = PLAIN | {"clients": [1, 0]}
LEFT_OUT = PLAIN | {"notice": "the index of d.parquet, which has no name, is left out"}
AGED = ("the index 'age' of d.parquet is none of", "reset_index()")
NO_NUMBERS = ("the column 'a' of", "leave the column out")


def frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 3], "b": [2.0, 4.0], "label": [0, 1]} | changes)


def indexed(values: Any, name: str | None = None) -> pd.DataFrame:
    return frame().set_index(pd.Index(values, name=name))


PARQUET: dict[str, tuple[pd.DataFrame | pa.Table, dict[str, Any] | tuple[str, str]]] = {
    # the index
    "client as the index": (indexed(["z", "y"], "client"), OWNED),
    "client as a range index": (frame().set_index(pd.RangeIndex(2, name="client")), PLAIN | {"clients": [0, 1]}),
    "label as the index": (frame().set_index("label"), PLAIN),
    "label and client as the index": (frame(client=["z", "y"]).set_index(["label", "client"]), OWNED),
    "an index without a name": (indexed([7, 7]), LEFT_OUT),
    "a range that does not count the rows": (indexed([7, 5]), LEFT_OUT),
    "words as the index": (indexed(["z", "y"]), ("the index without a name of d.parquet", "reset_index")),
    "an index of a name": (indexed([7, 7], "age"), AGED),
    "a range of a name": (indexed([7, 5], "age"), AGED),
    # names
    "two labels": (
        pa.table([pa.array([1]), pa.array([0]), pa.array([1])], names=["a", "label", "label"]),
        ("two columns with the name 'label'", "every column once"),
    ),
    "no pandas": (pa.table({"label": [0, 1], "a": [1, 3], "b": [2.0, 4.0]}), PLAIN),
    "Label": (frame().rename(columns={"label": "Label"}), ("'Label' of d.parquet differs", "write label")),
    "blanks around a name": (frame().rename(columns={"label": " label "}), PLAIN),
    # owners
    "owners as numbers": (frame(client=[10, 9]), OWNED),
    "owners as categories": (frame(client=pd.Categorical(["z", "y"])), OWNED),
    "owners as floats": (frame(client=[1.0, 2.0]), ("the column 'client' of", "astype(str)")),
    "an owner missing": (frame(client=["x", None]), ("column 'client', row 2 of d.parquet is missing", "owner")),
    "an owner of blanks": (frame(client=["x", " "]), ("column 'client', row 2 of d.parquet is missing", "owner")),
    "no owner": (frame(client=[None, None]), ("column 'client', row 1 of d.parquet is missing", "owner")),
    # cells
    "categories of numbers": (frame(a=pd.Categorical([1, 3])), PLAIN),
    "numbers as text": (frame(a=["1", " 3"]), PLAIN),
    "decimals": (frame(a=[Decimal("1.0"), Decimal("3.0")]), PLAIN),
    "a decimal of 2^24 and one": (
        frame(a=[Decimal(1), Decimal(2**24 + 1)]),
        ("column 'a', row 2 of d.parquet holds a whole number above 2^24", "id"),
    ),
    "a missing decimal": (frame(a=[Decimal("1.5"), None]), ("column 'a', row 2 of d.parquet is missing", "a number")),
    "float16": (frame(a=np.array([1, 3], np.float16)), PLAIN),
    "bytes are not scaled": (frame(a=np.array([1, 3], np.uint8)), PLAIN),
    "dates": (frame(a=pd.to_datetime(["2001-01-01"] * 2)), NO_NUMBERS),
    "times": (frame(a=[datetime.timedelta(1)] * 2), NO_NUMBERS),
    "lists": (frame(a=[[1, 2], [3]]), NO_NUMBERS),
    "raw bytes": (frame(a=[b"1", b"3"]), NO_NUMBERS),
    "a missing whole number": (
        frame(a=pd.array([1, None], "Int64")),
        ("column 'a', row 2 of d.parquet is missing", "a number"),
    ),
    "nothing but missing": (frame(a=[None, None]), ("column 'a', row 1 of d.parquet is missing", "a number")),
    "NaN": (frame(b=[2, np.nan]), ("column 'b', row 2 of d.parquet is missing", "a number")),
    "2^53 and one": (
        frame(a=[1, 2**53 + 1]),
        ("column 'a', row 2 of d.parquet holds a whole number above 2^24", "is an id"),
    ),
    "large floats are rounded": (frame(a=[1e9 + 1, 3]), PLAIN | {"features": [[1e9, 2], [3, 4]]}),
    "labels as floats": (frame(label=[0.0, 1.0]), PLAIN),
    "labels as true and false": (frame(label=[False, True]), PLAIN),
    "words as labels": (frame(label=["cat", "dog"]), ("column 'label', row 1 of d.parquet is missing or", "number")),
    "no rows": (frame().iloc[:0], ("holds no records", "at least one")),
}


@pytest.mark.parametrize(("content", "wanted"), PARQUET.values(), ids=PARQUET)
def test_an_odd_parquet_is_read_as_meant_or_refused(tmp_path, meant, content, wanted) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(content, path) if isinstance(content, pa.Table) else content.to_parquet(path)
    meant(lambda: files.load(path, Data(shape=(2,), classes=CLASSES)), wanted)
