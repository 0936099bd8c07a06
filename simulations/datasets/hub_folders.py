"""Reads a folder that the package `datasets` of Hugging Face wrote with `save_to_disk`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .checks import reading
from .columns import arrow_columns
from .table import Source
from .tabular import asking, frame
from .telemetry import quiet


def is_hub_folder(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def load_hub_folder(folder: Path, data: Data) -> Source:
    """Return the records of a data set, or of the parts `train` and perhaps `test` of a dictionary of data sets.

    Raises: DataError if there is no part `train`, or if `frame` raises it.
    """
    columns = {name: arrow_columns(table, folder, asking(data)) for name, table in hub_tables(folder).items()}
    sources = {name: frame(found, folder, data) for name, found in columns.items()}
    test = sources["test"].train if "test" in sources else None
    return replace(sources["train"], test=None if test is None else replace(test, clients=None))


def hub_tables(folder: Path) -> dict[str, Any]:
    """Return the parts of the folder as Arrow tables by name, `train` among them.

    Raises: DataError if the folder cannot be read or has no part `train`.
    """
    with reading(folder), quiet():
        from datasets import DatasetDict, load_from_disk

        found = load_from_disk(str(folder))
        parts: list[tuple[Any, Any]] = list(found.items()) if isinstance(found, DatasetDict) else [("train", found)]
        tables = {str(name): part.with_format("arrow")[:] for name, part in parts}
    if "train" not in tables:
        raise DataError(
            f"{folder} has no part 'train'; it has {', '.join(tables)}", "save the training part as 'train'"
        )
    return tables
