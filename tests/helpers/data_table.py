"""The table [data] of a plan in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bract.privacy.plan.schema import Data


def data_table(name: str, path: Path | str | None, shape: Sequence[int], classes: int, **more: Any) -> Data:
    """Return a table [data] with these facts."""
    told = {"name": name, "path": None if path is None else str(path), "shape": tuple(shape), "classes": classes}
    return Data.model_validate(told | more)
