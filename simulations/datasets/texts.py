"""Reads texts of the user's own, for the prediction of the next character or word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...privacy.errors import DataError
from ...privacy.plan.schema import UNKNOWN, Data
from .checks import check_filled, client_numbers, reading
from .folders import part_of
from .table import Source
from .tokens import Text, run_length, windowed_parts

_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Texts:
    """The texts, the owner of each or None, and whether each is for testing, or None if nothing says so."""

    texts: list[str]
    owners: list[str] | None
    tested: list[bool] | None = None


def load_texts(path: Path, data: Data) -> Source:
    """Return token sequences, int64 [N, T], T = data.shape[0], of a .txt or .jsonl file or a folder of .txt files.

    The texts of an owner are joined in order. Owners are the folders that hold the files, or else the files; in a
    .jsonl file the field `client` or `data.client`. The last `data.holdout` of each owner's tokens is the test part,
    unless the field `data.part` says which texts are. Tokens are characters or, by `data.tokens`, lower-case words
    and punctuation marks, numbered by `data.vocabulary`. Without this key the text itself numbers them, and a notice
    says so.

    Raises: DataError if the file is no text, holds a token outside the vocabulary, or is too short.
    """
    length = run_length(path.name, data.shape)
    found = _found(path, data)
    names = found.owners or [""] * len(found.texts)
    places = client_numbers(names, lambda row: f"the client of text {row + 1}") if found.owners else [0] * len(names)
    trained, tested = _parts(found, [int(place) for place in places], data)
    vocabulary, notices = _vocabulary(trained, tested, data)
    numbers = {token: number for number, token in enumerate(vocabulary)}
    cut = [[_numbered(text, numbers, path) for text in part] for part in (trained, tested)]
    source = windowed_parts(path.name, cut[0], cut[1], length)
    if found.owners is None:
        source = replace(source, train=replace(source.train, clients=None))
    if source.test is not None and found.owners is None:
        source = replace(source, test=replace(source.test, clients=None))
    return replace(source, notices=notices)


def split_text(text: str, tokens: str | None) -> list[str]:
    """Return the characters of a text or, with `tokens = "words"`, its lower-case words and punctuation marks.

    >>> split_text("Don't go!", "words")
    ["don't", 'go', '!']
    """
    return _WORD.findall(text.lower()) if tokens == "words" else list(text)


def _parts(found: Texts, places: list[int], data: Data) -> tuple[list[list[str]], list[list[str]]]:
    """Return the tokens of each owner's training part and test part."""
    trained: list[list[str]] = [[] for _ in range(max(places) + 1)]
    tested: list[list[str]] = [[] for _ in trained]
    for row, (place, text) in enumerate(zip(places, found.texts, strict=True)):
        held = found.tested is not None and found.tested[row]
        (tested if held else trained)[place] += split_text(text, data.tokens)
    if found.tested is None:
        cuts = [int((1 - data.holdout) * len(text)) for text in trained]
        tested = [text[cut:] for text, cut in zip(trained, cuts, strict=True)]
        trained = [text[:cut] for text, cut in zip(trained, cuts, strict=True)]
    return trained, tested


def count_tokens(path: Path, data: Data) -> Counter[str]:
    """Return how often each token is in the text, training and test parts together.

    Raises: DataError if the file is no text.
    """
    found = _found(path, data)
    return Counter(chain.from_iterable(chain(*_parts(found, [0] * len(found.texts), data))))


def _found(path: Path, data: Data) -> Texts:
    found = _folder(path) if path.is_dir() else read_lines(path, data) if path.suffix == ".jsonl" else _file(path)
    check_filled(sum(map(len, found.texts)), path)
    return found


def _vocabulary(
    trained: Iterable[list[str]], tested: Iterable[list[str]], data: Data
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the vocabulary, and a notice if it comes from the text."""
    if data.vocabulary is not None:
        return data.vocabulary, ()
    notice = "the vocabulary comes from the text, and no budget pays for it: state data.vocabulary for a deployment"
    if data.tokens != "words":
        return tuple(sorted(set(chain.from_iterable([*trained, *tested])))), (notice,)
    counts = Counter(chain.from_iterable(trained))
    common = sorted(counts, key=lambda word: (-counts[word], word))[: data.classes - 1]
    return (UNKNOWN, *common), (notice,)


def _numbered(text: list[str], numbers: dict[str, int], path: Path) -> Text:
    unknown = numbers.get(UNKNOWN, -1)
    found = np.array([numbers.get(token, unknown) for token in text], dtype=np.int64)
    if (found < 0).any():
        what = f"{path} holds {int((found < 0).sum())} tokens that are not in data.vocabulary"
        raise DataError(what, f"add them, or add {UNKNOWN!r}, which stands for every other word")
    return found


def _file(path: Path) -> Texts:
    return Texts([read_text(path)], None)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises: DataError if the file cannot be read, or is no UTF-8 text.
    """
    with reading(path):
        try:
            return path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8 text", "save the file as UTF-8") from None


def _folder(folder: Path) -> Texts:
    """Return the texts of OWNER/name.txt or OWNER.txt, sorted by path."""
    with reading(folder):
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    depths = {len(path.relative_to(folder).parts) for path in paths}
    if depths not in ({1}, {2}) or any(path.suffix != ".txt" for path in paths):
        what = f"{folder} holds files that are neither OWNER.txt nor OWNER/name.txt"
        raise DataError(what, "lay the texts out in one of these two ways, and move other files out of the folder")
    owners = [path.parent.name if depths == {2} else path.stem for path in paths]
    return Texts([read_text(path) for path in paths], owners)


def read_lines(path: Path, data: Data) -> Texts:
    """Return the texts of a file with one JSON object on each line.

    Raises: DataError if a line is no object, or has no text in a field that the plan names.
    """
    rows = [_object(line, number, path) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    field = data.features[0] if data.features else "text"
    texts = [_string(row, field, number, path) for number, row in enumerate(rows, 1)]
    client = data.client or ("client" if rows and all("client" in row for row in rows) else None)
    owners = None if client is None else [_string(row, client, number, path) for number, row in enumerate(rows, 1)]
    tested = None
    if data.part is not None:
        said = [part_of(_string(row, data.part, number, path)) for number, row in enumerate(rows, 1)]
        if None in said:
            what = f"the field {data.part!r} of text {said.index(None) + 1} of {path.name} is neither train nor test"
            raise DataError(what, "write train or test there")
        tested = [one == "test" for one in said]
    return Texts(texts, owners, tested)


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DataError(f"line {number} of {path.name} is not a JSON object", 'write {"text": "..."} on each line')
    return row


def _string(row: dict[str, Any], field: str, number: int, path: Path) -> str:
    found = row.get(field)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        what = f"text {number} of {path.name} has no field {field!r} with a text"
        raise DataError(what, "name the fields by data.features = ['text'], data.client and data.part")
    return found
