"""Reads the user's own data: an .npz, .csv or .parquet file, or a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ....privacy.errors import DataError
from ....privacy.plan.schema import Data
from ..arrays import load_arrays
from ..checks import check_filled, reading
from ..dataset import Dataset, path_of
from ..hub_folders import is_hub_folder, load_hub_folder
from ..images import load_images
from ..table import Source
from ..tabular import load_frame
from ..texts import load_texts

READERS: dict[str, Callable[[Path, Data], Source]] = {
    ".npz": load_arrays,
    ".csv": load_frame,
    ".parquet": load_frame,
    ".txt": load_texts,
    ".jsonl": load_texts,
}


TABLE = ("label", "client", "features", "ignore", "columns", "labels", "part", "window", "stride")
ARRAY = ("columns", "labels")
TEXT = ("client", "features", "part", "tokens", "vocabulary")
"""The keys of [data] that say how each kind of data is read."""


def load(path: Path | None, data: Data) -> Source:
    """Return the data at `path`, as the plan's table [data] describes them, with clients if the data have them.

    The records of `data.test`, if the plan gives it, are the test part.

    Raises: DataError if the path is missing or has an unknown suffix, or if its content is not usable.
    """
    source = _load(path, data)
    if data.test is None:
        return source
    if source.test is not None or source.train.has_tokens:
        raise DataError(f"{path} has a test part of its own, and data.test names another", "leave out data.test")
    if path is not None and path.is_dir() and data.labels is None:
        raise DataError("the classes of two folders of pictures may differ", "list the classes in data.labels")
    tested = _load(Path(data.test), data)
    return replace(source, test=replace(tested.train, clients=None))


def _load(path: Path | None, data: Data) -> Source:
    if path is None:
        raise DataError("the data set files needs a path", "set data.path to a file or a folder")
    with reading(path):
        is_folder, size = path.is_dir(), path.stat().st_size if path.exists() else None
    if size is None:
        raise DataError(f"{path} does not exist", "set data.path to a file or a folder that exists")
    is_text = path.suffix.lower() in (".txt", ".jsonl")
    if is_folder:
        return _folder(path, data)
    _check_keys(path, data, TEXT if is_text else ARRAY if path.suffix.lower() == ".npz" else TABLE)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        unpack = "unpack it, and " if path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar") else ""
        hint = f"{unpack}convert it to one of {', '.join(READERS)}, or give a folder of images"
        raise DataError(f"{path} is of an unknown kind: {path.suffix or 'no suffix'}", hint)
    check_filled(size, path)
    return reader(path, data)


def _folder(path: Path, data: Data) -> Source:
    """Return the records of a folder: of Hugging Face's package, of texts, or of pictures."""
    if is_hub_folder(path):
        _check_keys(path, data, TABLE)
        return load_hub_folder(path, data)
    with reading(path):
        holds_text = len(data.shape) == 1 and next(path.rglob("*.txt"), None) is not None
    _check_keys(path, data, TEXT if holds_text else ARRAY)
    return load_texts(path, data) if holds_text else load_images(path, data)


def _check_keys(path: Path, data: Data, known: tuple[str, ...]) -> None:
    """Refuse a key of the plan that means nothing for this kind of data: the user expects something of it."""
    for key in dict.fromkeys((*TABLE, *TEXT)):
        if key not in known and getattr(data, key) is not None:
            what = f"data.{key} means nothing for {path.name}"
            raise DataError(what, f"leave it out: for this kind of data there are {', '.join(known)}")


DATASET = Dataset(
    "files",
    lambda data: load(path_of(data), data),
    "your own data: the file or folder of data.path",
)
