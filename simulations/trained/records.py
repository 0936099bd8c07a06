"""Reads the records that a trained model is asked about: with labels to evaluate it, without to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...privacy import DataError
from ..datasets import Table, load
from ..datasets.checks import as_float32, check_filled, fitted, reading
from ..datasets.columns import RESERVED, read_csv, read_parquet
from ..datasets.folders import SUFFIXES
from ..datasets.images import read_pictures
from ..study import Study

KINDS = ".npz, .csv or .parquet, a picture, or a folder of pictures"


def read_labelled(path: Path, plan: Study) -> Table:
    """Return the records and labels of a file or folder in one of the forms that a plan's `data.path` may name.

    A file with test records of its own, such as `x_test`, gives these.

    Raises:
        DataError: as for `data.path`; or a folder does not have all the labels, whose order then is not known.
    """
    source = load(plan.data.model_copy(update={"name": "files", "path": str(path.absolute())}))
    table = source.test or source.train
    if path.is_dir() and not table.has_numbers and len(np.unique(table.labels)) < plan.data.classes:
        raise DataError(
            f"{path} has {len(np.unique(table.labels))} of the {plan.data.classes} labels that the model knows",
            "give a folder with pictures of every label, as the labels are numbered in their order",
        )
    return table


def read_features(path: Path, plan: Study) -> np.ndarray:
    """Return the features [records, *shape] in a file or folder; labels and clients in it are not read.

    An array file holds `x`; in a table, every column is a feature except `label`, `target` and `client`; pictures
    count in the order of their names.

    Raises:
        DataError: the file cannot be read, or does not fit the plan.
    """
    with reading(path):
        if not path.exists():
            raise DataError(f"{path} does not exist", "give a file or a folder that exists")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in SUFFIXES:
        return _pictures(path, plan)
    if suffix == ".npz":
        return check_features(_array(path), plan, path.name)
    if suffix in (".csv", ".parquet"):
        return _table(path, plan)
    raise DataError(f"{path} is of an unknown kind: {suffix or 'no suffix'}", f"give {KINDS}")


def check_features(values: np.ndarray, plan: Study, name: str) -> np.ndarray:
    """Return features as the network takes them, from numbers [records, ...]; uint8 is divided by 255.

    Raises:
        DataError: they do not fit the plan.
    """
    from ...models import objective_of

    if values.ndim == 0 or len(values) == 0:
        raise DataError(f"{name} holds no records", "give at least one record")
    if objective_of(plan.model.name, plan.data.shape).name != "next token":
        return fitted(values, plan.data.shape, lambda row: f"record {row} of {name}")
    if values.dtype.kind not in "iu" or values.ndim != 2 or values.shape[1] > plan.data.shape[0]:
        what = f"{name} does not hold token sequences of at most {plan.data.shape[0]} steps"
        raise DataError(what, "give integers of shape [records, steps]")
    if (faults := (values < 0) | (values >= plan.data.classes)).any():
        row = int(faults.any(axis=1).argmax())
        raise DataError(f"record {row} of {name} has a token outside 0..{plan.data.classes - 1}", "number tokens so")
    return values.astype(np.int64)


def _array(path: Path) -> np.ndarray:
    with reading(path), path.open("rb") as stream:
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile) or "x" not in file.files:
            raise DataError(f"{path} holds no array 'x'", "save it with numpy.savez(path, x=features)")
        return file["x"]


def _table(path: Path, plan: Study) -> np.ndarray:
    columns = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    check_filled(columns.rows, path)
    named = {name: values for name, values in columns.numbers.items() if name not in RESERVED}
    for name, column in named.items():
        if (faults := ~np.isfinite(column.values)).any():
            what = f"column {name!r}, row {int(faults.argmax()) + 1} of {path.name} is missing or not a finite number"
            raise DataError(what, "give every cell of the column a number, or leave the row out")
    cells = [as_float32(column.values, lambda row: f"row {row + 1} of {path.name}") for column in named.values()]
    stacked = np.stack(cells, axis=1) if cells else np.empty((columns.rows, 0))
    return fitted(stacked, plan.data.shape, lambda row: f"row {row + 1} of {path.name}")


def _pictures(path: Path, plan: Study) -> np.ndarray:
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{path} holds no picture", f"give {KINDS}")
    folder = path if path.is_dir() else path.parent
    return read_pictures(folder, [one.relative_to(folder).as_posix() for one in found], plan.data.shape)
