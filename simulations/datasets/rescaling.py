"""Applies the plan's transform of all numbers alike to records that have no named columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...models.tables import Unfit, adapt
from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .table import Source, Table


def rescaled(source: Source, path: Path, data: Data) -> Source:
    """Return the source after the entry "*" of `data.columns`; unchanged if the plan has no columns.

    Raises: DataError if the plan transforms named columns, or a record is then not finite.
    """
    if data.columns is None:
        return source
    test = None if source.test is None else _table(source.test, path, data)
    return replace(source, train=_table(source.train, path, data), test=test)


def _table(table: Table, path: Path, data: Data) -> Table:
    return replace(table, features=rescaled_features(table.features, path, data))


def rescaled_features(features: np.ndarray, path: Path, data: Data) -> np.ndarray:
    """Return features [N, ...] after the entry "*" of `data.columns`; unchanged if the plan has no columns.

    Raises: DataError as `rescaled`.
    """
    try:
        changed, known = adapt(features, data, None)
    except Unfit as fault:
        raise DataError(f"{path}: {fault.what}", fault.hint) from None
    if not known.all():
        what = f"record {int(known.argmin())} of {path.name} is not finite after data.columns"
        raise DataError(what, "scale it by other constants")
    return changed
