"""The Flower ClientApp: offer in, protected update out, and nothing else ever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from ..privacy import BractError, Clipped, DataError, Entropy, Keystream, Plan, PlanError, SystemEntropy, read_plan
from ..privacy.messages import (
    ANSWER,
    OFFER,
    PARAMETERS,
    RAW,
    UPDATE,
    Code,
    Malformed,
    Offer,
    read_offer,
    read_parameters,
)
from .records import Records, fitting, read_records
from .terms import Refused, Terms, read_terms
from .train import MECHANISMS, Mechanism, Task, torch_device

log = logging.getLogger("bract.client")
HISTORY = "bract.history"


@dataclass(frozen=True)
class Device:
    """All that a device brings to a round: its records, its owner's terms, its randomness, what it can do."""

    records: Records
    terms: Terms
    entropy: Entropy = field(default_factory=SystemEntropy)
    read_plan: Callable[[str], Plan] = read_plan
    mechanisms: Mapping[tuple[str, str], Mechanism] = field(default_factory=lambda: MECHANISMS)


class BudgetSpent(Exception):
    """The device took part in as many rounds as the plan's noise was sized for."""


def open_device(context: Context) -> Device:
    """Return the device that the node's own settings describe: `data`, an .npz file, and `terms`, a TOML file.

    Raises:
        DataError: the records cannot be read.
        PlanError: the terms cannot be read.
    """
    settings = context.node_config
    if not settings.get("data"):
        raise DataError("the node has no data", "start it with --node-config 'data=\"records.npz\"'")
    terms = read_terms(Path(str(settings["terms"]))) if settings.get("terms") else Terms()
    return Device(_records_of(str(settings["data"])), terms)


@lru_cache(maxsize=1)
def _records_of(path: str) -> Records:
    return read_records(Path(path), torch_device())


def make_app(open_device: Callable[[Context], Device]) -> ClientApp:
    """Return a ClientApp that answers offers with what `open_device` gives for the node's context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:  # pyright: ignore[reportUnusedFunction]
        return Message(_answer(message, context, open_device), reply_to=message)

    return app


def _answer(message: Message, context: Context, open_device: Callable[[Context], Device]) -> RecordDict:
    """Return the records of the reply: an update, or a code that says why there is none."""
    try:
        return _reply(Code.OK, _take_part(message, context, open_device))
    except Exception as fault:
        code = _code(fault)
        log.warning("round not taken part in (%s)", code, exc_info=fault if code is Code.FAILED else None)
        if isinstance(fault, Refused | BractError):
            log.warning("%s", fault)
        return _reply(code)


def _code(fault: Exception) -> Code:
    match fault:
        case Refused():
            return Code.TERMS
        case BudgetSpent():
            return Code.SPENT
        case Malformed():
            return Code.MALFORMED
        case PlanError():
            return Code.PLAN
        case DataError():
            return Code.DATA
        case _:
            return Code.FAILED


def _take_part(message: Message, context: Context, open_device: Callable[[Context], Device]) -> Clipped:
    offer, parameters = _read(message)
    device = open_device(context)
    plan = device.read_plan(offer.plan)
    device.terms.check(plan)
    records = fitting(device.records, plan)
    _count_round(context, offer.round, plan)

    def draw(*purpose: str | int) -> Keystream:
        return device.entropy.keystream("device", context.node_id, offer.round, *purpose)

    return device.mechanisms[plan.cell](Task(plan, parameters, records, draw))


def _read(message: Message) -> tuple[Offer, np.ndarray]:
    try:
        offer = read_offer(message.content.config_records[OFFER])
        [array] = message.content.array_records[PARAMETERS].values()
    except (KeyError, ValueError) as fault:
        raise Malformed("records are missing") from fault
    return offer, read_parameters(array.dtype, array.shape, array.stype, array.data)


def _count_round(context: Context, number: int, plan: Plan) -> None:
    """Count this round in the node's own state: within a run there is one plan, and no round twice or too many."""
    history = context.state.config_records.get(HISTORY, history_record(0, 0, plan))
    rounds, last = int(str(history["rounds"])), int(str(history["last"]))
    if history["plan"] != plan.digest:
        raise PlanError("the server changed the plan within a run", "start a new run for a new plan")
    if rounds >= plan.participations:
        raise BudgetSpent
    if number <= last:
        raise Malformed("this round was offered before")
    context.state[HISTORY] = history_record(rounds + 1, number, plan)


def history_record(rounds: int, last: int, plan: Plan) -> ConfigRecord:
    """Return what a node remembers of a run: how many rounds it took part in, the last one's number, the plan."""
    return ConfigRecord({"rounds": rounds, "last": last, "plan": plan.digest})


def _reply(code: Code, update: Clipped | None = None) -> RecordDict:
    records = RecordDict({ANSWER: ConfigRecord({"code": str(code)})})
    if update is not None:
        vector = update.vector
        array = Array(dtype="int64", shape=tuple(vector.shape), stype=RAW, data=vector.astype("<i8").tobytes())
        records[UPDATE] = ArrayRecord({UPDATE: array})
    return records


app = make_app(open_device)
