"""Reads the user's own data: an .npz, .csv or .parquet file, or a folder of images."""

from __future__ import annotations

from pathlib import Path

from ....privacy.errors import DataError
from ..arrays import load_arrays
from ..checks import check_filled, reading
from ..dataset import Dataset, path_of
from ..images import load_images
from ..table import Source
from ..tabular import load_frame

READERS = {".npz": load_arrays, ".csv": load_frame, ".parquet": load_frame}


def load(path: Path | None, shape: tuple[int, ...], classes: int) -> Source:
    """Return the data at `path`: features [N, *shape], labels 0..classes-1 or numbers, and clients if it has them.

    Raises: DataError if the path is missing or has an unknown suffix, or if its content is not usable.
    """
    if path is None:
        raise DataError("the data set files needs a path", "set data.path to a file or a folder")
    with reading(path):
        is_folder, size = path.is_dir(), path.stat().st_size if path.exists() else None
    if size is None:
        raise DataError(f"{path} does not exist", "set data.path to a file or a folder that exists")
    if is_folder:
        return load_images(path, shape, classes)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        unpack = "unpack it, and " if path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar") else ""
        hint = f"{unpack}convert it to one of {', '.join(READERS)}, or give a folder of images"
        raise DataError(f"{path} is of an unknown kind: {path.suffix or 'no suffix'}", hint)
    check_filled(size, path)
    return reader(path, shape, classes)


DATASET = Dataset(
    "files",
    lambda data: load(path_of(data), data.shape, data.classes),
    "your own data: the file or folder of data.path",
)
