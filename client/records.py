"""A device's own records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..privacy import DataError, Plan
from ..privacy.arrays import read_arrays


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


def torch_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_records(features: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device) -> Records:
    """Return records on a torch device, from arrays of shape [records, *shape] and [records]."""
    return Records(torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device))


def check_records(records: Records, plan: Plan) -> None:
    """Refuse records that are not what the plan's data table says.

    Raises:
        DataError: shape or labels differ from the plan. No records at all are fine: one may join or leave unseen.
    """
    if not len(records):
        return
    shape = tuple(records.features.shape[1:])
    if shape != plan.data.shape:
        raise DataError(
            f"records have shape {list(shape)}, the plan says {list(plan.data.shape)}", "set data.shape to match"
        )
    low, high = int(records.labels.min()), int(records.labels.max())
    if low < 0 or high >= plan.data.classes:
        raise DataError(f"a label lies outside 0..{plan.data.classes - 1}", "set data.classes to match the labels")


def fitting(records: Records, plan: Plan) -> Records:
    """Return the records whose label the plan knows: others count for nothing, as if they were not there.

    To refuse them aloud would tell the server, which chooses the number of classes, what labels there are.

    Raises:
        DataError: the records have another shape than the plan's.
    """
    fits = (records.labels >= 0) & (records.labels < plan.data.classes)
    kept = records if bool(fits.all()) else Records(records.features[fits], records.labels[fits])
    check_records(kept, plan)
    return kept


def read_records(path: Path, device: torch.device) -> Records:
    """Return the records in an .npz file with float32 `x` [records, *shape] and int64 `y` [records].

    A value that is not finite is left in: its record's gradient counts as zero.

    Raises:
        DataError: the file is missing or holds something else.
    """
    hint = "point the node's data setting at an .npz file with arrays x and y, as `bract partition` writes"
    try:
        features, labels = read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}", hint) from None
    except Exception as fault:  # numpy raises whatever a damaged zip brings up
        raise DataError(f"cannot read the data file {path}", hint) from fault
    return make_records(features, labels, device)
