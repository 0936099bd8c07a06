"""A device's own records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..privacy import DataError, Plan


@dataclass(frozen=True, repr=False)
class Records:
    """Features, float32 [records, *shape], and labels, int64 [records]: they never leave the device."""

    features: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Records({len(self)})"

    def select(self, chosen: NDArray[np.bool_]) -> Records:
        """Return the records where `chosen`, bool [records], is true."""
        mask = torch.from_numpy(chosen).to(self.labels.device)
        return Records(self.features[mask], self.labels[mask])

    def chunks(self, size: int) -> list[Records]:
        """Return the records in order, cut into parts of at most `size`."""
        parts = zip(self.features.split(size), self.labels.split(size), strict=True)
        return [Records(features, labels) for features, labels in parts]


def make_records(features: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device) -> Records:
    """Return records on a torch device, from arrays of shape [records, *shape] and [records]."""
    return Records(torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device))


def check_records(records: Records, plan: Plan) -> None:
    """Refuse records that are not what the plan's data table says.

    Raises:
        DataError: shape or labels differ from the plan, or there are no records.
    """
    shape = tuple(records.features.shape[1:])
    if not len(records):
        raise DataError("this client has no records", "give every client records, or use fewer clients")
    if shape != plan.data.shape:
        raise DataError(
            f"records have shape {list(shape)}, the plan says {list(plan.data.shape)}", "set data.shape to match"
        )
    low, high = int(records.labels.min()), int(records.labels.max())
    if low < 0 or high >= plan.data.classes:
        raise DataError(f"a label lies outside 0..{plan.data.classes - 1}", "set data.classes to match the labels")


def read_records(path: Path, device: torch.device) -> Records:
    """Return the records in an .npz file with float32 `x` [records, *shape] and int64 `y` [records].

    Raises:
        DataError: the file is missing or holds something else.
    """
    hint = "point the node's data setting at an .npz file with arrays x and y, as `bract partition` writes"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features, labels = arrays["x"].astype(np.float32), arrays["y"].astype(np.int64)
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}", hint) from None
    except Exception as fault:  # numpy raises whatever a damaged zip brings up
        raise DataError(f"cannot read the data file {path}", hint) from fault
    if len(features) != len(labels) or not np.isfinite(features).all():
        raise DataError(f"{path} has unequal lengths or values that are not finite", hint)
    return make_records(features, labels, device)
