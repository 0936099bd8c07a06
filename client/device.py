"""What a device brings to a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from ..privacy import Contribution, DataError, Entropy, Mechanism, PlanError, SystemEntropy
from ..privacy.accept import accept_offer
from ..privacy.secagg.identity import Identity, Roster, read_identity, read_roster
from ..privacy.settings import check_settings
from ..privacy.storage import exposed
from .memory.device_ledger import Spending
from .memory.step_journal import DiskJournal, Journal
from .pseudonym import Pseudonym
from .records import Records, read_records, torch_device
from .terms import Terms, read_terms
from .train import Task, contribution

SETTINGS = ("data", "state", "terms", "identity", "roster", "certificate")
FLOWERS = ("partition-id", "num-partitions")
"""The settings of a node, and those that Flower's own tools give it: they mean nothing here."""


@dataclass(frozen=True)
class Device:
    """All that a device brings to a round: its records, its owner's terms, its randomness, what it can do.

    `identity`, `roster` and `journal` are for secure aggregation: who it is, with whom it takes part, what it did.
    `spending` is its ledger, which every device has whose data are real; one that is simulated has none. `pseudonym`
    gives the names that it shows where no roster names it.
    """

    records: Records
    terms: Terms
    entropy: Entropy = field(default_factory=SystemEntropy)
    accept: Callable[[str], Mechanism] = accept_offer
    contribute: Callable[[Task], Contribution] = contribution
    identity: Identity | None = None
    roster: Roster | None = None
    journal: Journal | None = None
    spending: Spending | None = None
    pseudonym: Pseudonym | None = None


def open_device(context: Context) -> Device:
    """Return the device that the node's own settings describe.

    `data` is an .npz file, `state` a folder of its own and `terms` a TOML file; for secure aggregation `identity` is
    a PEM file, `roster` a TOML file and, where the roster names an authority, `certificate` a file in base64.

    Raises:
        DataError: records, identity or roster cannot be read.
        PlanError: there are no terms or they cannot be read, or there is no state: nothing is answered without both.
    """
    check_settings(context.node_config, SETTINGS + FLOWERS, "node")
    settings = {name: Path(str(value)) for name, value in context.node_config.items() if value}
    if "data" not in settings:
        raise DataError("the node has no data", "start it with --node-config 'data=\"records.npz\"'")
    if "state" not in settings:
        raise PlanError(
            "the node has no state", "give it a folder of its own: --node-config 'state=\"/var/lib/bract\"'"
        )
    if "terms" not in settings:
        raise PlanError(
            "the node has no terms", "type: bract terms init, and give it --node-config 'terms=\"terms.toml\"'"
        )
    terms = read_terms(settings["terms"])
    if settings["state"].exists() and (place := exposed(settings["state"])):
        raise DataError(f"others can change the node's state: see {place}", f"type: chmod go-w {place}")
    return Device(
        _records_of(str(settings["data"])),
        terms,
        identity=read_identity(settings["identity"], settings.get("certificate")) if "identity" in settings else None,
        roster=read_roster(settings["roster"]) if "roster" in settings else None,
        journal=DiskJournal(settings["state"]),
        spending=Spending(settings["state"], terms),
        pseudonym=Pseudonym(settings["state"]),
    )


@lru_cache(maxsize=1)
def _records_of(path: str) -> Records:
    return read_records(Path(path), torch_device())
