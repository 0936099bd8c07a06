"""Records from a folder of images: CLIENT/LABEL/picture, LABEL/picture, or a labels.csv."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ...privacy.errors import DataError
from .fields import check_filled, class_numbers, client_numbers, reading
from .table import Source, Table

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_MODES = {1: "L", 3: "RGB"}
_LAYOUT = "lay them out as CLIENT/LABEL/name.png or LABEL/name.png, or add a labels.csv with file,label,client"


@dataclass(frozen=True)
class _Listing:
    """What is to be read: files (below the folder), the name of each one's label and of its client."""

    files: Sequence[str]
    labels: Sequence[str]
    clients: Sequence[str] | None


def load_images(folder: Path, shape: tuple[int, ...], classes: int) -> Source:
    """Every image as gray ([1, H, W]) or RGB ([3, H, W]), resized, in [0, 1]; files in the order of their names.

    Labels that are all whole numbers are taken as they are; other labels are numbered in sorted order.

    Raises: DataError where the layout, an image, a label, or the plan's shape is not usable.
    """
    if len(shape) != 3 or shape[0] not in _MODES:
        what = f"images cannot take the plan's shape {list(shape)}"
        raise DataError(what, "set data.shape to [1, height, width] for gray or [3, height, width] for colour")
    with reading(folder):
        listing = _listed(folder) if (folder / "labels.csv").is_file() else _walked(folder)
    labels = _label_numbers(listing, classes)
    clients = None if listing.clients is None else client_numbers(np.array(listing.clients))
    return Source(Table(_pixels(folder, listing.files, shape), labels, clients), None)


def _walked(folder: Path) -> _Listing:
    """The listing that the names of the folders give."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    shown = [path for path in paths if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    depths = {len(path.parts) for path in shown}
    check_filled(len(shown), folder)
    if 1 in depths:
        raise DataError(f"{folder} holds images without labels", _LAYOUT)
    if depths not in ({2}, {3}):
        raise DataError(f"the images of {folder} lie at different or too deep levels", _LAYOUT)
    clients = [path.parts[0] for path in shown] if depths == {3} else None
    return _Listing([path.as_posix() for path in shown], [path.parts[-2] for path in shown], clients)


def _listed(folder: Path) -> _Listing:
    """The listing that labels.csv gives."""
    import pandas as pd

    path = folder / "labels.csv"
    with reading(path):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("file", "label"):
        if name not in frame:
            hint = "its first line must be: file,label or file,label,client"
            raise DataError(f"{path} has no column {name!r}", hint)
    check_filled(len(frame), path)
    columns = {name: list(frame[name]) for name in ("file", "label", "client") if name in frame}
    _check_cells(columns)
    return _Listing(columns["file"], columns["label"], columns.get("client"))


def _check_cells(columns: dict[str, list[str]]) -> None:
    """Nothing where every cell is filled, every file lies below the folder and is listed once."""
    for name, cells in columns.items():
        for row, cell in enumerate(cells, start=1):
            if not isinstance(cell, str) or not cell.strip():
                raise DataError(f"column {name!r}, row {row} of labels.csv is missing", "fill in every cell")
    seen: set[PurePosixPath] = set()
    for row, file in enumerate(columns["file"], start=1):
        place = PurePosixPath(file)
        if place.is_absolute() or ".." in place.parts:
            what = f"row {row} of labels.csv names a file outside its folder"
            raise DataError(what, "write file names relative to the folder, without ..")
        if place in seen:
            raise DataError(f"row {row} of labels.csv names a file again", "list every file once")
        seen.add(place)


def _label_numbers(listing: _Listing, classes: int) -> np.ndarray:
    names = sorted(set(listing.labels))
    if all(re.fullmatch("[0-9]{1,9}", name) for name in names):
        numbers = np.array([int(name) for name in listing.labels])
        return class_numbers(numbers, classes, lambda row: f"the label of {listing.files[row]}")
    if len(names) > classes:
        what = f"there are {len(names)} different labels, the plan has {classes} classes"
        raise DataError(what, f"set data.classes = {len(names)} in the plan, or mend the labels")
    ranks = {name: rank for rank, name in enumerate(names)}
    return np.array([ranks[name] for name in listing.labels], dtype=np.int64)


def _pixels(folder: Path, files: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """float32 [N, *shape] in [0, 1]."""
    pixels = np.empty((len(files), *shape), dtype=np.float32)
    for row, file in enumerate(files):
        path = folder / file
        if not path.is_file():
            raise DataError(f"{path} does not exist", "mend labels.csv, or put the image back")
        with reading(path):
            pixels[row] = _image(path, shape)
    pixels /= 255
    return pixels


def _image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [*shape]."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # PIL would cut these off at 255
                hint = "scale the image to 8 bits and save it again"
                raise DataError(f"{path} has more than 8 bits a channel", hint)
            small = image.convert(_MODES[shape[0]]).resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
