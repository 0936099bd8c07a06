"""Odd .csv files: each is read as its owner meant it, or refused with two lines that name the place."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest

from bract.privacy.plan.schema import Data
from bract.simulations.datasets.shipped import files

CLASSES = 3
PLAIN = {"features": [[1, 2], [3, 4]], "labels": [0, 1]}

CSV: dict[str, tuple[str | bytes, dict[str, Any] | tuple[str, str]]] = {
    # how the text is written
    "byte order mark": (b"\xef\xbb\xbfa,b,label\n1,2,0\n3,4,1\n", PLAIN),
    "byte order mark before the label": (b"\xef\xbb\xbflabel,a,b\n0,1,2\n1,3,4\n", PLAIN),
    "CRLF": ("a,b,label\r\n1,2,0\r\n3,4,1\r\n", PLAIN),
    "CR": ("a,b,label\r1,2,0\r3,4,1\r", PLAIN),
    "no line end at the end": ("a,b,label\n1,2,0\n3,4,1", PLAIN),
    "empty lines": ("\n\na,b,label\n1,2,0\n\n  \n3,4,1\n\n", PLAIN),
    "only empty lines": ("\n \n\n", ("d.csv holds no records", "at least one record")),
    "blanks around names and cells": (" a , b, label \n 1 , 2,0 \n3,\t4, 1\n", PLAIN),
    "quotes": ('"a","b","label"\n"1","2","0"\n3,"4",1\n', PLAIN),
    "quoted newline in a cell": ('a,b,label\n"1\n",2,0\n3,4,1\n', PLAIN),
    "quoted newline in a name": ('"a\nb",c,label\n1,2,0\n3,4,1\n', PLAIN),
    "open quote": ('a,b,label\n1,2,0\n3,"4,1\n', ("line 3 of d.csv is not CSV", "close every quote")),
    "UTF-16": (
        "a,b,label\n1,2,0\n".encode("utf-16"),
        ("line 1 of d.csv is not UTF-8", "save the file as UTF-8"),
    ),
    "Latin-1": ("a,größe,label\n1,2,0\n".encode("latin-1"), ("line 1 of d.csv is not UTF-8", "UTF-8")),
    "Latin-1 far down": (
        b"a,b,label\n" + b"1,2,0\n" * 3000 + b"\xfc,2,0\n",
        ("line 3002 of d.csv is not", "UTF-8"),
    ),
    "gzip by content": (gzip.compress(b"a,b,label\n1,2,0\n"), ("line 1 of d.csv is not UTF-8", "UTF-8")),
    "semicolons": (
        "a;b;label\n1;2;0\n",
        ("the first line of d.csv has no commas", "separate values by commas"),
    ),
    "semicolons and decimal commas": ("a;b;label\n1,5;2,5;0\n", ("d.csv has no commas", "with a point: 1.5")),
    "tabs": ("a\tb\tlabel\n1\t2\t0\n", ("the first line of d.csv has no commas", "by commas")),
    "NUL in a cell": ("a,b,label\n1\x00,2,0\n", ("column 'a', row 1 of d.csv is missing or not", "a number")),
    "a comment above": (
        "# made in 2020\na,b,label\n1,2,0\n",
        ("line 2 of d.csv has 3 values", "every column"),
    ),
    "a comment below": (
        "a,b,label\n1,2,0\n# end\n",
        ("line 3 of d.csv has 1 values, the first line", "every"),
    ),
    # rows and columns
    "one value more": ("a,b,label\n9,1,2,0\n8,3,4,1\n", ("line 2 of d.csv has 4 values", "name every column")),
    "one value more, text first": ("a,b,label\nx,1,2,0\ny,3,4,1\n", ("line 2 of d.csv has 4 values", "every")),
    "one value more in a later row": (
        "a,b,label\n1,2,0\n3,4,1,5\n",
        ("line 3 of d.csv has 4 values", "quotes"),
    ),
    "one value fewer": (
        "a,b,label\n1,2,0\n\n3,4\n",
        ("line 4 of d.csv has 2 values, the first", "every column"),
    ),
    "trailing commas in rows": (
        "a,b,label\n1,2,0,\n3,4,1,\n",
        ("line 2 of d.csv has 4 values", "every column"),
    ),
    "trailing commas everywhere": (
        "a,b,label,\n1,2,0,\n",
        ("column 4 of d.csv has no name", "name every column"),
    ),
    "rows of commas": ("a,b,label\n1,2,0\n,,\n", ("column 'a', row 2 of d.csv is missing", "a number")),
    "an index without a name": (",a,b,label\n0,1,2,0\n1,3,4,1\n", ("column 1 of d.csv has no name", "index=False")),
    "an unquoted decimal comma": ("a,b,label\n1,5,2,0\n", ("line 2 of d.csv has 4 values", "in quotes")),
    "no names": ("1,2,0\n3,4,1\n", ("has no column 'label'", "name the columns")),
    "the first line again": ("a,b,label\n1,2,0\na,b,label\n", ("column 'a', row 2 of d.csv is", "a number")),
    # names
    "two labels": ("label,a,label\n0,1,1\n", ("two columns with the name 'label'", "every column once")),
    "two labels but for a blank": (
        "label,a,label \n0,1,1\n",
        ("two columns with the name 'label'", "every column once"),
    ),
    "two clients": ("client,a,client,label\nx,1,y,0\n", ("two columns with the name 'client'", "every column once")),
    "two features of a name": ("a,b,a,label\n1,2,3,0\n", ("two columns with the name 'a'", "every column once")),
    "one name in two forms": ("é,e\u0301,label\n1,2,0\n", ("two columns with the name 'é'", "every column once")),
    "label and Label": ("a,b,label,Label\n1,2,0,1\n", ("'Label' of d.csv differs from 'label'", "write label")),
    "client in upper case": ("a,b,label,CLIENT\n1,2,0,1\n", ("'CLIENT' of d.csv differs from", "write client")),
    "label twice, once with a letter that does not show": (
        "a,label,label\u200b\n1,0,1\n",
        ("'label\\u200b' of d.csv differs from 'label' in invisible characters", "write label"),
    ),
    "client in letters of full width": (
        "a,b,label,\uff43lient\n1,2,0,7\n",
        ("of d.csv differs from 'client'", "write"),
    ),
    "a soft hyphen in client": ("a,b,label,cli\xadent\n1,2,0,7\n", ("of d.csv differs from 'client'", "write")),
    "a byte order mark twice, before the label": (
        b"\xef\xbb\xbf\xef\xbb\xbflabel,a,b\n0,1,2\n",
        ("of d.csv differs from 'label' in invisible characters", "write label"),
    ),
    "features that differ in case": ("a,A,label\n1,2,0\n3,4,1\n", PLAIN),
    "names that look like pandas'": ("a,a.1,label\n1,2,0\n3,4,1\n", PLAIN),
    # cells
    "a question mark": ("a,b,label\n1,2,0\n?,4,1\n", ("column 'a', row 2 of d.csv is missing or not", "number")),
    "NA": ("a,b,label\n1,NA,0\n", ("column 'b', row 1 of d.csv is missing or not a finite", "a number")),
    "a blank label": ("a,b,label\n1,2, \n", ("column 'label', row 1 of d.csv is missing", "a number")),
    "a quoted decimal comma": ('a,b,label\n"1,5",2,0\n', ("column 'a', row 1 of d.csv is missing or", "a number")),
    "underscores in numbers": ("a,b,label\n1_000,2,0\n", ("column 'a', row 1 of d.csv is missing or", "a number")),
    "hexadecimal": ("a,b,label\n0x1F,2,0\n", ("column 'a', row 1 of d.csv is missing or not", "a number")),
    "a date": ("a,b,label\n2020-01-01,2,0\n", ("column 'a', row 1 of d.csv is missing or not", "a number")),
    "minus infinity": ("a,b,label\n1,2,0\n-inf,4,1\n", ("column 'a', row 2 of d.csv is missing or not", "number")),
    "true and false": ("a,b,label\n1,True,0\n3,FALSE,1\n", {"features": [[1, 1], [3, 0]], "labels": [0, 1]}),
    "true among numbers": ("a,b,label\n1,True,0\n3,0,1\n", ("column 'b', row 1 of d.csv is missing", "a number")),
    "scientific": ("a,b,label\n1e0,+2.0,0\n.3e1,4.,1\n", PLAIN),
    "2^24 and less": ("a,b,label\n16777216,-16777215,0\n", {"features": [[2**24, 1 - 2**24]], "labels": [0]}),
    "2^24 and one": ("a,b,label\n1,2,0\n16777217,4,1\n", ("'a', row 2 of d.csv holds a whole number", "is an id")),
    "large but exact": ("a,b,label\n20000000,1e30,0\n", {"features": [[2e7, np.float32(1e30)]], "labels": [0]}),
    "30 digits": ("a,b,label\n1,123456789012345678901234567891,0\n", ("'b', row 1 of d.csv holds a whole", "scale")),
    "1e300": ("a,b,label\n1e300,2,0\n", ("'a', row 1 of d.csv holds a value beyond 3.4e38", "scale the feature")),
    "labels as floats": ("a,b,label\n1,2,0.0\n3,4,1.0\n", PLAIN),
    "a label of one half": ("a,b,label\n1,2,0.5\n", ("column 'label', row 1 of d.csv is not one of", "from 0")),
    "labels from 1 on": ("a,b,label\n1,2,3\n", ("column 'label', row 1 of d.csv is not one of", "from 0")),
    "a negative label": ("a,b,label\n1,2,-1\n", ("column 'label', row 1 of d.csv is not one of the", "from 0")),
    "a huge label": (f"a,b,label\n1,2,{2**70}\n", ("column 'label', row 1 of d.csv is not one of", "from 0")),
    "a word as label": ("a,b,label\n1,2,cat\n", ("column 'label', row 1 of d.csv is missing or not", "number")),
    # owners
    "007 is not 7": ("a,b,label,client\n1,2,0,007\n3,4,1,7\n", PLAIN | {"clients": [0, 1]}),
    "1e5 is not 100000": ("a,b,label,client\n1,2,0,1e5\n3,4,1,100000\n", PLAIN | {"clients": [1, 0]}),
    "NA is a name": ("a,b,label,client\n1,2,0,NA\n3,4,1,nan\n", PLAIN | {"clients": [0, 1]}),
    "blanks of an owner": ("a,b,label,client\n1,2,0, Ann  B \n3,4,1,Ann B\n", PLAIN | {"clients": [0, 0]}),
    "unicode of an owner": ("a,b,label,client\n1,2,0,é\n3,4,1,e\u0301\n", PLAIN | {"clients": [0, 0]}),
    "owners by size": ("a,b,label,client\n1,2,0,10\n3,4,1,9\n", PLAIN | {"clients": [1, 0]}),
    "owners alike": (
        "a,b,label,client\n1,2,0,Ann\n3,4,1,ann\n",
        PLAIN | {"clients": [0, 1], "notice": "one person?"},
    ),
    "a blank owner": ("a,b,label,client\n1,2,0,x\n1,2,0, \n", ("column 'client', row 2 of d.csv is", "owner")),
}


@pytest.mark.parametrize(("content", "wanted"), CSV.values(), ids=CSV)
def test_an_odd_csv_is_read_as_meant_or_refused(tmp_path, meant, content, wanted) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    meant(lambda: files.load(path, Data(shape=(2,), classes=CLASSES)), wanted)


@pytest.mark.parametrize("name", ["d.csv.gz", "d.zip", "d.xz"])
def test_a_packed_file_is_to_be_unpacked(tmp_path, refused, name) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"a,b,label\n1,2,0\n"))
    refused(
        lambda: files.load(tmp_path / name, Data(shape=(2,), classes=CLASSES)),
        "is of an unknown kind",
        "unpack it, and convert",
    )


def test_a_table_longer_than_a_chunk_of_memory_is_read_whole(tmp_path, refused) -> None:
    rows = 40_000
    (tmp_path / "d.csv").write_text(
        "a,b,label,client\n" + "".join(f"{i},{-i},{i % 3},{i % 7}\n" for i in range(rows))
    )
    table = files.load(tmp_path / "d.csv", Data(shape=(2,), classes=CLASSES)).train
    assert np.array_equal(table.features, np.array([[i, -i] for i in range(rows)], np.float32))
    assert np.array_equal(table.labels, np.arange(rows) % 3)
    assert np.array_equal(table.clients, np.arange(rows) % 7)
    (tmp_path / "d.csv").write_text("a,b,label\n" + "1,2,0\n" * 30_000 + "true,2,0\n" * 30_000)
    refused(
        lambda: files.load(tmp_path / "d.csv", Data(shape=(2,), classes=CLASSES)), "column 'a', row 3", "a number"
    )
