"""Lists the pictures in a folder, with their labels and clients from labels.csv or from folder names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ...privacy.errors import DataError
from .checks import check_filled, clean, reading
from .columns import csv_lines

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
_LAYOUT = "lay them out as CLIENT/LABEL/name.png or LABEL/name.png, or add a labels.csv with file,label,client"
_LEFTOVERS = ("__macosx", "thumbs.db", "desktop.ini")
"""Files that operating systems leave behind. They are ignored, like hidden files (whose names start with a point)."""

_PART = re.compile(
    r"(?:[0-9]+[-_. ]*)?(?:(train(?:ing)?)|test(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|dev|hold[-_ ]?out)"
    r"[-_ ]?(?:set|data|images|part|split)?[-_. ]*[0-9]*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Listing:
    """The files to read (relative to the folder), and the label and the client of each."""

    files: Sequence[str]
    labels: Sequence[str]
    clients: Sequence[str] | None


def listings(folder: Path) -> tuple[Listing, Listing | None, tuple[str, ...]]:
    """Return (train, test, notices) from labels.csv or from the folders; `test` is None without a test part.

    Raises: DataError if the layout does not give every picture a label, or if the folder holds other files.
    """
    with reading(folder):
        if (folder / "labels.csv").is_file():
            return _listed(folder)
        return _by_folders(_pictures(folder), folder)


def _pictures(folder: Path) -> list[PurePosixPath]:
    """Return every picture, sorted by path. Refuse other files, links to folders, and empty label folders."""
    paths, ends, links = _walked(folder)
    if links:
        what = f"{folder / links[0]} is a link to a folder, which is not followed"
        raise DataError(what, "put the folder itself in its place, or list the pictures in a labels.csv")
    others = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    if others:
        what = f"{folder / others[0]} is not a picture of a known kind{_more(others)}"
        raise DataError(what, f"move it out of the folder, or save it as one of {', '.join(SUFFIXES[:3])}")
    check_filled(len(paths), folder)
    labels = {path.parent.name for path in paths}
    empty = [end for end in ends if end.name not in labels]
    if empty:
        raise DataError(f"{folder / empty[0]} holds no picture{_more(empty)}", "fill the folder, or remove it")
    return paths


def _walked(folder: Path) -> tuple[list[PurePosixPath], list[PurePosixPath], list[PurePosixPath]]:
    """Return (files, empty folders, links to folders) below the folder, each sorted; leftovers are ignored."""
    files, ends, links = [], [], []
    for here, folders, names in os.walk(folder, onerror=_raise):
        place = PurePosixPath(Path(here).relative_to(folder).as_posix())
        folders[:], names = [[name for name in found if not _is_leftover(name)] for found in (folders, names)]
        links += [place / name for name in folders if Path(here, name).is_symlink()]
        files += [place / name for name in names]
        ends += [place] if not folders and not names else []
    return sorted(files), sorted(ends), sorted(links)


def _raise(fault: OSError) -> None:
    raise fault


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def _by_folders(paths: list[PurePosixPath], folder: Path) -> tuple[Listing, Listing | None, tuple[str, ...]]:
    """Return the listings according to the folders' names."""
    if min(len(path.parts) for path in paths) == 1:
        raise DataError(f"{folder} holds images without labels", _LAYOUT)
    tops = dict.fromkeys(path.parts[0] for path in paths)
    parts = {top: part_of(top) for top in tops}
    if not all(parts.values()):
        _check_no_part([top for top in tops if parts[top]], paths, folder)
        return _listing(paths, 0, folder), None, ()
    train, test = [[top for top in tops if parts[top] == part] for part in ("train", "test")]
    if len(train) != 1 or len(test) > 1:
        what = f"{folder} has the parts {', '.join(tops)}: it needs one training part and at most one test part"
        raise DataError(what, "merge or remove parts so that only train and test remain, or rename label folders")
    below = [_listing([path for path in paths if path.parts[0] == top], 1, folder) for top in (*train, *test)]
    return below[0], below[1] if test else None, ()


def _check_no_part(named: list[str], paths: list[PurePosixPath], folder: Path) -> None:
    """Refuse a client folder with the name of a data part, such as train or test."""
    if named and max(len(path.parts) for path in paths) > 2:
        what = f"{folder / named[0]} has the name of a data part, but other folders beside it do not"
        raise DataError(what, "put all pictures into train and test, or rename the folder if it is a client's")


def _listing(paths: list[PurePosixPath], above: int, folder: Path) -> Listing:
    """Return the listing of pictures at CLIENT/LABEL/name or LABEL/name, below `above` folders."""
    depths = {len(path.parts) - above for path in paths}
    if depths == {1}:
        raise DataError(f"{folder} holds images without labels", _LAYOUT)
    if depths not in ({2}, {3}):
        raise DataError(f"the images of {folder} lie at different levels or too deep", _LAYOUT)
    labels = [path.parts[-2] for path in paths]
    if {part_of(label) for label in set(labels)} >= {"train", "test"}:
        what = f"{folder} has the data parts train and test at the level of the labels"
        raise DataError(what, "lay the pictures out as train/LABEL/name.png and test/LABEL/name.png")
    clients = [path.parts[above] for path in paths] if depths == {3} else None
    return Listing([path.as_posix() for path in paths], labels, clients)


def part_of(name: str) -> Literal["train", "test"] | None:
    """Return the data part that a folder's name stands for, or None.

    >>> [part_of(name) for name in ("train", "TEST_data", "Validation", "ward-a")]
    ['train', 'test', 'test', None]
    """
    found = _PART.fullmatch(clean(name))
    return None if found is None else "train" if found[1] else "test"


def _listed(folder: Path) -> tuple[Listing, None, tuple[str, ...]]:
    """Return the listing in labels.csv, and a notice if the folder has pictures that are not in it."""
    path = folder / "labels.csv"
    lines = csv_lines(path)
    names = next(lines, [])
    hint = "its first line must be: file,label or file,label,client"
    missing, unknown = {"file", "label"} - set(names), set(names) - {"file", "label", "client"}
    if missing or unknown:
        name = min(missing or unknown)
        raise DataError(f"{path} has {'no' if missing else 'an unknown'} column {name!r}", hint)
    rows = list(lines)
    check_filled(len(rows), path)
    columns = {name: [row[number].strip() for row in rows] for number, name in enumerate(names)}
    _check_listed(columns)
    listing = Listing(columns["file"], columns["label"], columns.get("client"))
    known = {PurePosixPath(file) for file in listing.files}
    others = [one for one in _walked(folder)[0] if one.suffix.lower() in SUFFIXES and one not in known]
    return listing, None, (f"{len(others)} pictures are not in labels.csv and are left out",) if others else ()


def _check_listed(columns: dict[str, list[str]]) -> None:
    """Refuse empty cells, files outside the folder, files listed twice, and both train and test files in one list."""
    for name, cells in columns.items():
        if "" in cells:
            what = f"column {name!r}, row {cells.index('') + 1} of labels.csv is missing"
            raise DataError(what, "fill in every cell")
    seen: set[PurePosixPath] = set()
    parts = set()
    for row, file in enumerate(columns["file"], start=1):
        place = PurePosixPath(file)
        if place.is_absolute() or ".." in place.parts:
            what = f"row {row} of labels.csv names a file outside its folder"
            raise DataError(what, "write file names relative to the folder, without ..")
        if place in seen:
            raise DataError(f"row {row} of labels.csv names a file again", "list every file once")
        seen.add(place)
        parts.add(part_of(place.parts[0]) if len(place.parts) > 1 else None)
    if parts >= {"train", "test"}:
        what = "labels.csv lists files of both a training part and a test part"
        raise DataError(what, "list one part only, or lay the pictures out as train/LABEL and test/LABEL")


def _more(found: Sequence[PurePosixPath]) -> str:
    return f", nor are {len(found) - 1} others" if len(found) > 1 else ""
