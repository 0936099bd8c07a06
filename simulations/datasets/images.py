"""Reads records from a folder of images, with labels and clients from folder names or from labels.csv."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .checks import Place, client_numbers, listed_classes, named_classes, reading
from .folders import Listing, listings
from .notices import column_notices, owner_notices
from .rescaling import rescaled
from .table import Source, Table

if TYPE_CHECKING:
    from PIL import Image

_MODES = {1: "L", 3: "RGB"}
_NARROW = 0.1  # a notice counts the pictures whose aspect ratio differs from the plan's by more than this fraction


def load_images(folder: Path, data: Data) -> Source:
    """Return every image as gray ([1, H, W]) or RGB ([3, H, W]) in [0, 1], upright and resized, sorted by name.

    Labels are numbered as `data.labels` lists them; without it, integers stay unchanged and words are sorted.

    Raises: DataError if the layout, an image, a label, or the plan's shape is not usable.
    """
    shape, classes = data.shape, data.classes
    _check_shape(shape)
    train, test, notices = listings(folder)
    both = [train] if test is None else [train, test]
    files = [file for part in both for file in part.files]
    names = [label for part in both for label in part.labels]
    labels = _labels(names, data, lambda row: f"the label of {files[row]}")
    clients = _clients(train)
    pixels, stretched = _pixels(folder, files, shape)
    tables = [Table(pixels[: len(train.files)], labels[: len(train.files)], clients)]
    if test is not None:
        tables.append(Table(pixels[len(train.files) :], labels[len(train.files) :]))
    odd = [*column_notices(tables[0], None, classes), *owner_notices(train.clients or [])]
    if stretched:
        odd.append(
            f"{stretched} of {len(files)} pictures have another aspect ratio than data.shape and are stretched"
        )
    source = Source(tables[0], tables[1] if test is not None else None, (*notices, *odd))
    return rescaled(source, folder, data)


def _labels(names: Sequence[str], data: Data, place: Place) -> np.ndarray:
    return (
        named_classes(names, data.classes, place)
        if data.labels is None
        else listed_classes(names, data.labels, place)
    )


def read_pictures(folder: Path, files: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Return these pictures, without labels, as `load_images` does: float32 [N, *shape] in [0, 1].

    Raises: DataError if a picture or the plan's shape is not usable.
    """
    _check_shape(shape)
    return _pixels(folder, files, shape)[0]


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] not in _MODES:
        what = f"images cannot take the plan's shape {list(shape)}"
        raise DataError(what, "set data.shape to [1, height, width] for gray or [3, height, width] for colour")


def _clients(listing: Listing) -> np.ndarray | None:
    if listing.clients is None:
        return None
    return client_numbers(listing.clients, lambda row: f"the client of {listing.files[row]}")


def _pixels(folder: Path, files: Sequence[str], shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return pixels float32 [N, *shape] in [0, 1], and how many images were stretched."""
    pixels, stretched = np.empty((len(files), *shape), dtype=np.float32), 0
    for row, file in enumerate(files):
        path = folder / file
        if not path.is_file():
            raise DataError(f"{path} does not exist", "correct labels.csv, or restore the image")
        with reading(path):
            pixels[row], is_narrow = _image(path, shape)
        stretched += is_narrow
    pixels /= 255
    return pixels, stretched


def _image(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """Return pixels uint8 [*shape], and whether the image was stretched."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Open the file here: Pillow memory-maps files that it opens itself, and reads some mapped TIFFs wrongly.
        with path.open("rb") as stream, Image.open(stream) as image:
            _check_one(image, path)
            upright = ImageOps.exif_transpose(image)
            _check_opaque(upright, path)
            small = upright.convert(_MODES[shape[0]]).resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    ratio = upright.width * shape[1] / (upright.height * shape[2])
    pixels = np.asarray(small).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
    return pixels, not 1 - _NARROW <= ratio <= 1 / (1 - _NARROW)


def _check_one(image: Image.Image, path: Path) -> None:
    """Refuse a file with several pictures or with more than 8 bits per channel."""
    if image.mode.startswith(("I", "F")):  # PIL would cut these off at 255
        raise DataError(f"{path} has more than 8 bits per channel", "scale the image to 8 bits and save it again")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a camera's JPEG with a preview of itself
        raise DataError(f"{path} holds more than one picture", "save each picture as a file of its own")


def _check_opaque(image: Image.Image, path: Path) -> None:
    """Refuse a picture with transparent pixels, because its look depends on the background."""
    may_be = "transparency" in image.info or not {"A", "a"}.isdisjoint(image.getbands())
    if may_be and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
        raise DataError(f"{path} is transparent in places", "put the picture on a background, and save it again")
