"""A device's own records."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import Objective, objective_of
from ..models.tables import Cut, Unfit, adapt, prepare, read_cut
from ..privacy.errors import DataError
from ..privacy.npz import Features, Labels, read_arrays, read_mark
from .fixed_features import kept_features

if TYPE_CHECKING:
    from ..privacy import Plan
    from ..privacy.plan.schema import Data

log = logging.getLogger("bract.client")


@dataclass(frozen=True, repr=False)
class Records:
    """Features, float32 [records, *shape], and labels, int64 [records]: secret, they never leave the device.

    For sequences of T tokens with a label each, both are int64 [records, T]. For regression, the labels are float32
    [records]. `fitting` turns labels into the targets of the plan's network, and sets `fits`, bool [records], to
    false for blanks: records outside the plan, which have no effect. `transforms` marks records that went through
    the transforms of a plan already (`Data.transforms`).
    """

    features: torch.Tensor
    labels: torch.Tensor
    fits: NDArray[np.bool_] | None = None
    transforms: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Records({len(self)})"

    def select(self, chosen: NDArray[np.bool_]) -> Records:
        """Return the records where `chosen`, bool [records], is true, without the blanks."""
        mask = torch.from_numpy(chosen if self.fits is None else chosen & self.fits).to(self.labels.device)
        return Records(self.features[mask], self.labels[mask])

    def chunks(self, size: int, least: int = 0) -> list[Records]:
        """Return the records in order, in parts of at most `size`; empty parts fill the list up to `least` parts."""
        parts = zip(self.features.split(size), self.labels.split(size), strict=True)
        cut = [Records(features, labels) for features, labels in parts]
        return cut + [Records(self.features[:0], self.labels[:0])] * (least - len(cut))

    def filled(self, rows: int) -> Records:
        """Return a copy of the records, padded with blanks to `rows` rows."""
        return Records(_fill(self.features, rows), _fill(self.labels, rows))


def _fill(part: torch.Tensor, rows: int) -> torch.Tensor:
    return part.clone() if len(part) == rows else torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])


def torch_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


Precision = Literal["float32", "bfloat16"]


def precision_of(plan: Plan, device: torch.device) -> Precision:
    """Return the precision of passes through the network: the plan's on a GPU, else float32."""
    return plan.training.precision if device.type == "cuda" else "float32"


@dataclass(frozen=True, repr=False, eq=False)
class Sheet:
    """The lines of a device's .csv file, before a plan says what they become: secret, they never leave the device."""

    cut: Cut
    device: torch.device

    def __len__(self) -> int:
        return len(self.cut)

    def __repr__(self) -> str:
        return f"Sheet({len(self)})"


def make_records(features: Features, labels: Labels, device: torch.device, transforms: str | None = None) -> Records:
    """Return records on a torch device, from arrays as `read_arrays` returns them."""
    numbers, targets = torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)
    return Records(numbers, targets, transforms=transforms)


def objective(plan: Plan) -> Objective:
    """Return the objective of the plan's network."""
    return objective_of(plan.model.name, plan.data.shape)


def check_kind(records: Records | Sheet, plan: Plan) -> None:
    """Check that records have the plan's shape and kind, whatever their values and number.

    Raises:
        DataError: shape, kind or the names of columns differ from the plan's; it is raised for zero records too.
    """
    _check_kind(_transformed(records, plan), plan)


@contextmanager
def _unfit() -> Generator[None]:
    try:
        yield
    except Unfit as fault:
        raise DataError(fault.what, fault.hint) from None


def _check_kind(records: Records, plan: Plan) -> None:
    learns, shape = objective(plan), tuple(records.features.shape[1:])
    if shape != plan.data.shape:
        raise DataError(
            f"records have shape {list(shape)}, the plan says {list(plan.data.shape)}", "set data.shape to match"
        )
    if not learns.takes(records.features, records.labels):
        what = f"the model {plan.model.name} takes {learns.records}, which these records are not"
        raise DataError(what, "choose another model.name, or other data")


def _transformed(records: Records | Sheet, plan: Plan) -> Records:
    """Return the same number of records after the plan's transforms; those that do not fit become blanks."""
    if isinstance(records, Sheet):
        return _from_sheet(records, plan.data)  # pyright: ignore[reportArgumentType]
    if plan.data.transforms == records.transforms:
        return records
    with _unfit():
        numbers, known = adapt(records.features.cpu().numpy(), plan.data, records.transforms)
    features = torch.from_numpy(numbers).to(records.features.device)
    return replace(records, features=features, fits=known, transforms=plan.data.transforms)


@lru_cache(maxsize=1)
def _from_sheet(sheet: Sheet, data: Data) -> Records:
    """Return the records of a sheet. The last plan's are kept, so that each round does not read all cells again."""
    with _unfit():
        found = prepare(sheet.cut, data)
    return replace(make_records(found.features, found.labels, sheet.device, data.transforms), fits=found.known)


def check_records(records: Records, plan: Plan) -> None:
    """Check that records fit the plan's model and data table, labels included; a simulation does so.

    Raises:
        DataError: shape, kind or labels differ from the plan's.
    """
    check_kind(records, plan)
    if not bool(objective(plan).known(records.features, records.labels, plan.data.classes).all()):
        name = "label or token" if records.labels.dim() > 1 else "label"
        raise DataError(f"a {name} lies outside 0..{plan.data.classes - 1}", "set data.classes to match the labels")


def fitting(found: Records | Sheet, plan: Plan) -> Records:
    """Return the same number of records, as the plan's network sees them, with its targets as labels.

    If the network has a fixed part, the records hold the features that this part computes. Some records become
    blanks.

    A record becomes a blank if its label or one of its tokens is outside the plan's classes, which the server
    chooses. It also becomes a blank if one of its cells becomes no number under the plan's transforms. A blank is
    sampled like other records, so a device's work depends only on the size of its file. It has no effect: neither its
    label nor its tokens reach the network. Only the owner's log shows how many blanks there are.

    Raises:
        DataError: shape or kind of the records differ from the plan's.
    """
    learns, records = objective(plan), _transformed(found, plan)
    _check_kind(records, plan)
    known = learns.known(records.features, records.labels, plan.data.classes)
    if records.fits is not None:
        known = known & torch.from_numpy(records.fits).to(known.device)
    features, labels = (
        part if part.is_floating_point() else part.where(known.view(-1, *[1] * (part.dim() - 1)), 0)
        for part in (records.features, records.labels)
    )
    fits = known.cpu().numpy()
    if outside := int((~fits).sum()):
        what = f"{outside} of {len(fits)} records have a label or token outside the plan's 0..{plan.data.classes - 1}"
        also = "" if plan.data.columns is None else ", or a cell that data.columns has no number for,"
        log.warning("%s%s and count for nothing; padding such as -100 is not known either", what, also)
    return Records(kept_features(features, plan), learns.targets(features, labels), fits)


def read_records(path: Path, device: torch.device) -> Records | Sheet:
    """Return the records in an .npz file with `x` and `y`, as `read_arrays` reads them, or the lines of a .csv file.

    Values that are not finite are kept: the gradient of such a record counts as zero. Each line of a .csv file after
    the first is one record, and the plan says what it becomes. A line that is not a record becomes a blank.

    Raises:
        DataError: the file is missing, damaged, or has other content.
    """
    if path.suffix.lower() == ".csv":
        with _unfit():
            return Sheet(read_cut(path), device)
    if path.suffix.lower() == ".parquet":
        what = f"a device does not read Parquet: {path}"
        raise DataError(what, "save it as .csv: pandas.read_parquet(path).to_csv(path, index=False)")
    features, labels = read_arrays(path)
    return make_records(features, labels, device, read_mark(path))
