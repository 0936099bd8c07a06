"""The simulated clients and the records of each."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from ..client.records import Records, check_records, make_records
from ..privacy import DataError
from ..privacy.plan.schema import gives_one_away
from .datasets import load
from .datasets.splits import holdout, partition
from .datasets.table import Source, Table
from .study import Study


@dataclass(frozen=True, repr=False)
class Population:
    """All clients' records in one tensor, client after client, and the test records that no client holds."""

    records: Records
    starts: NDArray[np.int64]
    test: Table

    @property
    def clients(self) -> int:
        """The number of clients."""
        return len(self.starts) - 1

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all records, their clients, and the test records; as secret as the records."""
        arrays = (self.records.features.cpu().numpy(), self.records.labels.cpu().numpy(), self.starts)
        total = hashlib.sha256()
        for array in (*arrays, self.test.features, self.test.labels):
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return total.hexdigest()

    def client(self, number: int) -> Records:
        """Return the records of one client, as a view; it is the same view whenever it is asked for."""
        return self._views[number]

    @cached_property
    def _views(self) -> list[Records]:
        cuts = [slice(*pair) for pair in pairwise(self.starts.tolist())]
        whole = self.records
        return [Records(whole.features[cut], whole.labels[cut], transforms=whole.transforms) for cut in cuts]


def make_population(plan: Study, device: torch.device) -> Population:
    """Return the population that the plan's [data] table describes.

    If each client has its own test records and the split is natural, the `data.clients` largest clients take part.
    Raises:
        DataError: the data are missing, differ from the plan, or cannot be split as it says.
    """
    path, test = plan.data_path, plan.test_path
    placed = {"path": path and str(path), "test": test and str(test)}
    return populate(plan, load(plan.data.model_copy(update=placed)), device)


def populate(plan: Study, source: Source, device: torch.device) -> Population:
    """Return the population of these records, split as the plan's [data] table says.

    Notices about the user's data are printed to stderr, one line each.

    Raises:
        DataError: the data differ from the plan, or cannot be split as it says.
    """
    data = plan.data
    for notice in source.notices:
        print(f"notice: {notice}", file=sys.stderr)
    if data.split == "natural":
        source = source.largest(data.clients)
    train, test = holdout(source, data.split, data.holdout, data.seed, data.holdout_unit)
    parts = partition(train, data.split, data.clients, data.seed)
    if len(parts) != data.clients:
        raise DataError(
            f"the data have {len(parts)} clients, data.clients is {data.clients}", f"set data.clients = {len(parts)}"
        )
    _check_count(plan, len(train))
    ordered = train.select(np.concatenate(parts))
    records = make_records(ordered.features, ordered.labels, device, data.transforms)
    check_records(records, plan)
    return Population(records, np.cumsum([0, *(len(part) for part in parts)]), test)


def _check_count(plan: Study, records: int) -> None:
    """Refuse a plan with more records than the data, and a delta of 1/n or more for the n records of the data."""
    said, p = plan.data.records or 0, plan.privacy
    if p.unit != "record":
        return
    if said > records:
        raise DataError(
            f"the data have {records} training records, data.records is {said}", f"set data.records = {records}"
        )
    if gives_one_away(p.delta, records) and not p.allow_large_delta:
        raise DataError(
            f"privacy.delta {p.delta:g} is 1/n or more, n = {records} training records: publishing a whole record "
            "would satisfy it",
            "lower privacy.delta, bring more records, or set privacy.allow_large_delta = true",
        )
