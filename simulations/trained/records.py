"""Reads the records that a trained model is asked about: with labels to evaluate it, without to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...privacy import DataError
from ..datasets import Table, load
from ..datasets.checks import fitted, reading
from ..datasets.folders import SUFFIXES
from ..datasets.images import read_pictures
from ..datasets.rescaling import rescaled_features
from ..datasets.tabular import load_features
from ..study import Study
from .continuation import read_start

KINDS = ".npz, .csv or .parquet, a picture, a folder of pictures, or .txt for a model of a text"


def read_labelled(path: Path, plan: Study) -> Table:
    """Return the records and labels of a file or folder in one of the forms that a plan's `data.path` may name.

    If a file has test records of its own, such as `x_test`, these are returned.

    Raises:
        DataError: the records cannot be read like the data of a plan, or a folder lacks a label, so that the labels'
            order is not known.
    """
    source = load(plan.data.model_copy(update={"name": "files", "path": str(path.absolute()), "test": None}))
    table = source.test or source.train
    if (
        path.is_dir()
        and plan.data.labels is None
        and not table.has_numbers
        and len(np.unique(table.labels)) < plan.data.classes
    ):
        raise DataError(
            f"{path} has {len(np.unique(table.labels))} of the {plan.data.classes} labels that the model knows",
            "give a folder with pictures of every label, as the labels are numbered in their order",
        )
    return table


def read_features(path: Path, plan: Study) -> np.ndarray:
    """Return the features [records, *shape] in a file or folder; labels and clients in it are not read.

    An array file holds `x`. The features of a table are the columns that the plan names; if it names none, they are
    all columns except the label's and the owners'. Pictures are in the order of their names. The end of a text is one
    record. The plan's transforms apply.

    Raises:
        DataError: the file cannot be read, or does not fit the plan.
    """
    with reading(path):
        if not path.exists():
            raise DataError(f"{path} does not exist", "give a file or a folder that exists")
    suffix = path.suffix.lower()
    if suffix == ".txt" and objective_name(plan) == "next token":
        return read_start(path, plan)
    if path.is_dir() or suffix in SUFFIXES:
        return _pictures(path, plan)
    if suffix == ".npz":
        return rescaled_features(check_features(_array(path), plan, path.name), path, plan.data)
    if suffix in (".csv", ".parquet"):
        return _table(path, plan)
    raise DataError(f"{path} is of an unknown kind: {suffix or 'no suffix'}", f"give {KINDS}")


def notice_of_order(path: Path, plan: Study) -> str | None:
    """Return a notice if only the order of a table's columns says which feature each one is, else None."""
    if path.suffix.lower() not in (".csv", ".parquet") or plan.data.features is not None:
        return None
    return f"the plan does not name the features: the columns of {path.name} count in their order, as in training"


def check_features(values: np.ndarray, plan: Study, name: str) -> np.ndarray:
    """Return features as the network takes them, from numbers [records, ...]; uint8 is divided by 255.

    Raises:
        DataError: they do not fit the plan.
    """
    if values.ndim == 0 or len(values) == 0:
        raise DataError(f"{name} holds no records", "give at least one record")
    if objective_name(plan) != "next token":
        return fitted(values, plan.data.shape, lambda row: f"record {row} of {name}")
    if values.dtype.kind not in "iu" or values.ndim != 2 or values.shape[1] > plan.data.shape[0]:
        what = f"{name} does not hold token sequences of at most {plan.data.shape[0]} steps"
        raise DataError(what, "give integers of shape [records, steps]")
    if (faults := (values < 0) | (values >= plan.data.classes)).any():
        row = int(faults.any(axis=1).argmax())
        raise DataError(f"record {row} of {name} has a token outside 0..{plan.data.classes - 1}", "number tokens so")
    return values.astype(np.int64)


def objective_name(plan: Study) -> str:
    """Return the task of the plan's network."""
    from ...models import objective_of

    return objective_of(plan.model.name, plan.data.shape).name


def _array(path: Path) -> np.ndarray:
    with reading(path), path.open("rb") as stream:
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile) or "x" not in file.files:
            raise DataError(f"{path} holds no array 'x'", "save it with numpy.savez(path, x=features)")
        return file["x"]


def _table(path: Path, plan: Study) -> np.ndarray:
    if plan.data.window is not None or plan.data.tokens is not None:
        raise DataError(
            f"the plan cuts {path.name} into records, which predict does not do", "give an .npz file of them"
        )
    return load_features(path, plan.data)


def _pictures(path: Path, plan: Study) -> np.ndarray:
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{path} holds no picture", f"give {KINDS}")
    folder = path if path.is_dir() else path.parent
    pixels = read_pictures(folder, [one.relative_to(folder).as_posix() for one in found], plan.data.shape)
    return rescaled_features(pixels, path, plan.data)
