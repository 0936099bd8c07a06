"""Splits a data set: holds out test records, and assigns the other records to clients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...privacy.errors import DataError
from .table import Source, Table
from .telemetry import quiet

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

ATTEMPTS = 5  # seeds to try until no client is empty; flwr-datasets draws up to 11 times per seed
_KINDS = "set data.split to natural, iid, dirichlet:ALPHA (above 0) or pathological:CLASSES (1 or more)"


def holdout(
    source: Source, split: str, fraction: float, seed: int, unit: Literal["record", "client"] | None = None
) -> tuple[Table, Table]:
    """Return disjoint (train, test): the official test part if there is one, else held-out training records.

    Without an official test part, "natural" holds out the last max(1, round(fraction * K)) of K natural clients;
    every other split holds out a random `fraction` of the records, drawn by `seed`. `fraction` is within (0, 1). With
    `unit` the last clients are held out, or a `fraction` of the records of each client, whatever the split.

    Raises: DataError if split, fraction or seed are not usable, or if no training record would be left.
    """
    kind, _ = parse(split)
    if source.test is not None:
        return source.train, source.test
    if not 0 < fraction < 1:
        raise DataError(f"the test fraction {fraction} is not between 0 and 1", "set it to 0.2, for example")
    table = source.train
    if unit == "client" or (unit is None and kind == "natural"):
        tested = _last_clients(table, fraction)
    elif unit == "record" and table.clients is not None:
        tested = _drawn_of_each(table.clients, fraction, seed)
    else:
        tested = _drawn(len(table), fraction, seed)
    return table.select(np.flatnonzero(~tested)), table.select(np.flatnonzero(tested))


def partition(table: Table, split: str, clients: int | None, seed: int) -> list[np.ndarray]:
    """Return the sorted record indices (int64) of each client: disjoint, not empty, and together all records.

    `clients` is the number of clients; None is allowed only for "natural", where the data define it. The result is a
    function of the arguments. Records are shuffled before the split, so it does not depend on the order of the file.

    Raises: DataError if the arguments are not usable, or if no draw gives every client a record.
    """
    kind, parameter = parse(split)
    count = _count(table, kind, clients)
    if kind in ("dirichlet", "pathological"):
        _check_labels(table, split)
    shuffle, *tries = _seeds(seed)
    order = np.random.default_rng(shuffle).permutation(len(table))
    if kind == "pathological":
        _check_pathological(table, int(parameter), count)
        return _by_class(table.labels, order, int(parameter), count, np.random.default_rng(tries[0]))
    for attempt in tries:
        parts = _cut(table, order, _partitioner(kind, parameter, count, table, attempt), count)
        if _covers(parts, len(table)):
            return parts
    raise DataError(
        f"no split {split!r} of {len(table)} records was found that gives each of {count} clients a record",
        "lower data.clients, or raise the number behind the colon",
    )


def parse(split: str) -> tuple[str, float]:
    """Return (kind, number): ("natural", 0.0), ("iid", 0.0), ("dirichlet", alpha) or ("pathological", classes).

    >>> parse("dirichlet:0.3")
    ('dirichlet', 0.3)

    Raises: DataError if the text is none of these.
    """
    kind, colon, text = split.partition(":")
    if kind in ("natural", "iid") and not colon:
        return kind, 0.0
    number = _number(text)
    if kind == "dirichlet" and 0 < number < math.inf:
        return kind, number
    if kind == "pathological" and 1 <= number < math.inf and number == int(number):
        return kind, number
    raise DataError(f"{split!r} is not a way to split data", _KINDS)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _last_clients(table: Table, fraction: float) -> np.ndarray:
    """Return bool [N]: which records belong to the held-out natural clients."""
    owners = np.unique(_owners(table))
    if len(owners) < 2:
        what = "a single natural client cannot be split into training and test clients"
        raise DataError(what, "set data.split = 'iid', or bring data of at least two clients")
    return np.isin(_owners(table), owners[training_clients(len(owners), fraction) :])


def training_clients(clients: int, fraction: float) -> int:
    """Return how many of two or more natural clients train if a fraction is held out.

    >>> [training_clients(clients, 0.2) for clients in (2, 6, 14)]
    [1, 5, 11]
    """
    return clients - min(max(1, round(fraction * clients)), clients - 1)


def _drawn(records: int, fraction: float, seed: int) -> np.ndarray:
    """Return bool [N]: which records are drawn for the test part."""
    if records < 2:
        what = f"{records} records cannot be split into a training and a test part"
        raise DataError(what, "bring at least two records")
    _seeds(seed)
    size = min(max(1, round(fraction * records)), records - 1)
    return np.isin(np.arange(records), np.random.default_rng(seed).permutation(records)[:size])


def _drawn_of_each(owners: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return bool [N]: which records are drawn for the test part, `fraction` of each owner's; one stays at least."""
    _seeds(seed)
    rng, tested = np.random.default_rng(seed), np.zeros(len(owners), dtype=bool)
    for owner in np.unique(owners):
        rows = rng.permutation(np.flatnonzero(owners == owner))
        tested[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    if not tested.any():
        what = f"no client has enough records to hold out {fraction:g} of them"
        raise DataError(what, "raise data.holdout, or set data.holdout_unit = 'client'")
    return tested


def _owners(table: Table) -> np.ndarray:
    if table.clients is None:
        what = "the split 'natural' needs the owner of each record, and the data do not have it"
        raise DataError(what, "add a client column to the data, or set data.split = 'iid'")
    return table.clients


def _count(table: Table, kind: str, clients: int | None) -> int:
    """Return the number of clients of the split."""
    if kind == "natural":
        natural = len(np.unique(_owners(table)))
        if clients not in (None, natural):
            what = f"the data have {natural} natural clients, not {clients}"
            raise DataError(what, f"set data.clients = {natural}, and cohort.size to no more, or another data.split")
        clients = natural
    if clients is None or clients < 1:
        what = f"the split {kind!r} needs a number of clients, 1 or more"
        raise DataError(what, "set data.clients, for example to 10")
    if clients > len(table):
        what = f"{clients} clients are more than the {len(table)} records"
        raise DataError(what, f"lower data.clients to {len(table)} or less")
    return clients


def _check_labels(table: Table, split: str) -> None:
    if not table.has_classes:
        why = "these records have one per token" if table.has_tokens else "these data have numbers to predict"
        what = f"the split {split!r} needs one class label per record, but {why}"
        raise DataError(what, "set data.split = 'natural' or 'iid'")


def _check_pathological(table: Table, classes: int, clients: int) -> None:
    """Refuse if the classes cannot be assigned so that each client gets `classes` of them and no class is left."""
    sizes = np.unique(table.labels, return_counts=True)[1]
    present = len(sizes)
    if classes > present:
        what = f"the split needs {classes} classes per client, the data have {present}"
        raise DataError(what, f"set data.split = 'pathological:{present}' or less")
    if classes * clients < present:
        what = f"{clients} clients of {classes} classes each cannot hold the {present} classes of the data"
        raise DataError(what, f"set data.clients to {-(-present // classes)} or more")
    if np.minimum(sizes, clients).sum() < classes * clients:
        what = f"{clients} clients cannot hold {classes} classes each: some classes have too few records"
        raise DataError(what, "lower data.clients, or the number behind the colon")


def _by_class(
    labels: np.ndarray, order: np.ndarray, classes: int, clients: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return each client's sorted record indices: `classes` classes each; a class is divided evenly among clients."""
    shuffled = [order[labels[order] == label] for label in np.unique(labels)]
    holders = _holders([len(records) for records in shuffled], classes, clients, rng)
    parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for records, who in zip(shuffled, holders, strict=True):
        for client, share in zip(who, np.array_split(records, len(who)), strict=True):
            parts[client].append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def _holders(sizes: list[int], classes: int, clients: int, rng: np.random.Generator) -> list[list[int]]:
    """Return the clients of each class: at least one, at most its number of records; a client has `classes` classes.

    It first draws the number of clients of each class, then the classes of each client. A client always gets the
    classes that still need all remaining clients, so the assignment never gets stuck (Gale-Ryser, with equal degrees
    on one side).
    """
    most = np.minimum(sizes, clients)
    needed = np.ones(len(sizes), dtype=np.int64)
    for _ in range(classes * clients - len(sizes)):
        needed[rng.choice(np.flatnonzero(needed < most))] += 1
    holders: list[list[int]] = [[] for _ in sizes]
    for left, client in zip(range(clients, 0, -1), rng.permutation(clients), strict=True):
        due = np.flatnonzero(needed == left)
        free = np.flatnonzero((needed > 0) & (needed < left))
        drawn = free[np.argsort(-(rng.random(len(free)) ** (1 / needed[free])))]  # without replacement, by need
        chosen = [*due, *drawn[: classes - len(due)]]
        needed[chosen] -= 1
        for label in chosen:
            holders[label].append(int(client))
    return holders


def _seeds(seed: int) -> list[int]:
    """Return one seed for the shuffle and one for each attempt."""
    if seed < 0:
        raise DataError(f"the seed {seed} is negative", "set the seed to 0 or more")
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(1 + ATTEMPTS)]


def _partitioner(kind: str, parameter: float, count: int, table: Table, seed: int) -> Partitioner:
    """Return Flower's partitioner for this kind of split."""
    with quiet():
        from flwr_datasets import partitioner as flower

        if kind == "natural":
            return flower.NaturalIdPartitioner("client")
        if kind == "iid":
            return flower.IidPartitioner(count)
        return flower.DirichletPartitioner(count, "label", parameter, min_partition_size=1, seed=seed)


def _cut(table: Table, order: np.ndarray, partitioner: Partitioner, count: int) -> list[np.ndarray]:
    """Return the sorted record indices of each client, or an empty list if this draw fails."""
    columns = {"index": order}
    if table.has_classes:
        columns["label"] = table.labels[order]
    if table.clients is not None:
        columns["client"] = table.clients[order]
    with quiet():
        from datasets import Dataset

        partitioner.dataset = Dataset.from_dict(columns)
        try:
            return [np.sort(np.asarray(partitioner.load_partition(i)["index"][:])) for i in range(count)]
        except ValueError:  # an empty client after all its draws
            return []


def _covers(parts: list[np.ndarray], records: int) -> bool:
    if not parts or min(map(len, parts)) == 0:
        return False
    return np.array_equal(np.sort(np.concatenate(parts)), np.arange(records))
