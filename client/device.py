"""A device: its records, its owner's terms and its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from ..models import keep_weights
from ..privacy import Contribution, DataError, Entropy, Mechanism, PlanError, SystemEntropy
from ..privacy.accept import accept_offer
from ..privacy.secagg.identity import Identity, Roster, read_identity, read_roster
from ..privacy.settings import check_settings
from ..privacy.storage import exposed
from .disk.device_ledger import OwnerLedger
from .disk.pseudonym import Pseudonym
from .disk.step_journal import DiskJournal, Journal
from .records import Records, Sheet, read_records, torch_device
from .terms import Terms, read_terms
from .train import Task, contribution

SETTINGS = ("data", "state", "terms", "identity", "roster", "certificate", "weights")
FLOWERS = ("partition-id", "num-partitions")
"""The settings of a node, and those that Flower's tools set, which are ignored."""


@dataclass(frozen=True)
class Device:
    """A device: its records, its owner's terms, its randomness, and its functions to accept a plan and to train.

    `identity`, `roster` and `journal` are for secure aggregation. `spending` is its ledger; only a simulated device
    has none. `pseudonym` gives its names in runs without a roster.
    """

    records: Records | Sheet
    terms: Terms
    entropy: Entropy = field(default_factory=SystemEntropy)
    accept: Callable[[str], Mechanism] = accept_offer
    contribute: Callable[[Task], Contribution] = contribution
    identity: Identity | None = None
    roster: Roster | None = None
    journal: Journal | None = None
    spending: OwnerLedger | None = None
    pseudonym: Pseudonym | None = None


def open_device(context: Context) -> Device:
    """Return the device of the node's settings.

    `data` is an .npz or .csv file, `state` the node's own folder and `terms` a TOML file. For secure aggregation,
    `identity` is a PEM file and `roster` a TOML file; if the roster names an authority, `certificate` is a file in
    base64. `weights` is a .safetensors file, whose tensors stay frozen in plans that start from it.

    Raises:
        DataError: records, identity or roster cannot be read, or other users can change the state folder.
        PlanError: `terms` or `state` is missing, the terms are not valid, or the weights cannot be read.
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
    if "weights" in settings:
        _read_weights(settings["weights"])
    if settings["state"].exists() and (place := exposed(settings["state"])):
        raise DataError(f"other users can change the node's state: see {place}", f"type: chmod go-w {place}")
    return Device(
        _records_of(str(settings["data"])),
        terms,
        identity=read_identity(settings["identity"], settings.get("certificate")) if "identity" in settings else None,
        roster=read_roster(settings["roster"]) if "roster" in settings else None,
        journal=DiskJournal(settings["state"]),
        spending=OwnerLedger(settings["state"], terms),
        pseudonym=Pseudonym(settings["state"]),
    )


@lru_cache(maxsize=4)
def _read_weights(path: Path) -> str:
    try:
        return keep_weights(path)
    except (OSError, ValueError) as fault:
        raise PlanError(f"cannot read the node's weights {path}", "give the path of a .safetensors file") from fault


@lru_cache(maxsize=1)
def _records_of(path: str) -> Records | Sheet:
    return read_records(Path(path), torch_device())
