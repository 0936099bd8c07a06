"""A device's own records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import Objective, objective_of
from ..privacy import DataError, Plan
from ..privacy.arrays import Features, Labels, read_arrays


@dataclass(frozen=True, repr=False)
class Records:
    """Features, float32 [records, *shape], and labels, int64 [records]: they never leave the device.

    Runs of T tokens with a label at every place are both int64 [records, T]. Where a number is to be predicted, the
    labels are float32 [records]; once a plan is known, they are what the network's outputs are compared with.
    """

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


Precision = Literal["float32", "bfloat16"]


def precision_of(plan: Plan, device: torch.device) -> Precision:
    """Return that of passes through the plan's network: on a GPU the plan's, else float32."""
    return plan.training.precision if device.type == "cuda" else "float32"


def make_records(features: Features, labels: Labels, device: torch.device) -> Records:
    """Return records on a torch device, from arrays as in `read_arrays`."""
    return Records(torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device))


def objective(plan: Plan) -> Objective:
    """Return what the plan's network learns."""
    return objective_of(plan.model.name, plan.data.shape)


def check_records(records: Records, plan: Plan) -> None:
    """Refuse records that are not what the plan's model and data table say.

    Raises:
        DataError: kind, shape or labels differ from the plan. No records at all are fine: one may join or leave
            unseen.
    """
    if not len(records):
        return
    learns, shape = objective(plan), tuple(records.features.shape[1:])
    if shape != plan.data.shape:
        raise DataError(
            f"records have shape {list(shape)}, the plan says {list(plan.data.shape)}", "set data.shape to match"
        )
    if not learns.takes(records.features, records.labels):
        what = f"the model {plan.model.name} takes {learns.records}, which these records are not"
        raise DataError(what, "choose another model.name, or other data")
    if not bool(learns.known(records.features, records.labels, plan.data.classes).all()):
        name = "label or token" if records.labels.dim() > 1 else "label"
        raise DataError(f"a {name} lies outside 0..{plan.data.classes - 1}", "set data.classes to match the labels")


def fitting(records: Records, plan: Plan) -> Records:
    """Return the records whose labels, and tokens, the plan knows, with the targets of the plan's network as labels.

    Others count for nothing, as if not there. To refuse them aloud would tell the server, which chooses the number of
    classes, what labels there are.

    Raises:
        DataError: the records have another kind or shape than the plan's.
    """
    learns, kept = objective(plan), records
    if len(records) and learns.takes(records.features, records.labels):
        fits = learns.known(records.features, records.labels, plan.data.classes)
        kept = records if bool(fits.all()) else Records(records.features[fits], records.labels[fits])
    check_records(kept, plan)
    return Records(kept.features, learns.targets(kept.features, kept.labels))


def read_records(path: Path, device: torch.device) -> Records:
    """Return the records in an .npz file with float32 `x` [records, *shape] and int64 `y` [records], or tokens.

    Floats `y` are numbers to predict.

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
