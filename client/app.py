"""The Flower ClientApp: it receives offers and sends protected updates, and nothing else about the data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from ..privacy import BractError, BudgetError, DataError, Keystream, Mechanism, Plan, PlanError, Upload
from ..privacy.errors import Printable
from ..privacy.mechanisms.dropout_noise import SEED_BYTES, split_seeds
from ..privacy.messages import (
    BOXES,
    CONSENT,
    KEYS,
    OFFER,
    PARAMETERS,
    RAW,
    SECAGG,
    SHARES,
    UNMASK,
    WHO,
    Malformed,
    Offer,
    Sections,
    model_digest,
    read_offer,
    read_parameters,
    read_sections,
)
from ..privacy.secagg.identity import introduce
from ..privacy.secagg.masks import Mask
from ..privacy.secagg.session import make_session
from ..privacy.server_view import ANSWER, UPDATE, Code
from .device import Device, open_device
from .disk.step_journal import RepeatedStep
from .mask import mask
from .records import check_kind, fitting
from .run_history import read_history, write_history
from .secure_round import BadBoxes, BudgetSpent, NoSeat, NotOnRoster, SecureRound
from .terms import Refused
from .train import Task, try_training

log = logging.getLogger("bract.client")
log.addFilter(Printable())

AFTER_CHARGE = (CONSENT, UNMASK)
"""The kinds of message of a round that is charged already: a device answers them even after it refused the run."""


@dataclass(frozen=True, repr=False)
class AcceptedMessage:
    """One message at one device, with its offer read and its plan accepted."""

    message: Message
    context: Context
    offer: Offer
    device: Device
    mechanism: Mechanism

    @property
    def plan(self) -> Plan:
        """The plan of the mechanism."""
        return self.mechanism.plan

    @property
    def run(self) -> int:
        """Flower's ID of the message's run; the context's ID is the one of the first run in a series."""
        return self.message.metadata.run_id

    @contextmanager
    def record_refusals(self) -> Generator[None]:
        """Record a refusal on disk before it is sent; the device then refuses the run forever."""
        try:
            yield
        except (Refused, BudgetError):
            if self.device.journal is not None and self.message.metadata.message_type not in AFTER_CHARGE:
                self.device.journal.refuse(self.run)
            raise

    def sections(self, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> Sections:
        """Return the message's sections of secure aggregation."""
        return read_sections(self.message.content.config_records.get(SECAGG, ConfigRecord()), needed, also)

    def secure(self, round: int) -> SecureRound:
        """Return the device's side of a round of secure aggregation.

        Raises:
            Malformed: the plan has no secure aggregation.
            PlanError: the device has no identity, roster or journal.
            DataError: the device's identity is not on its roster.
        """
        device = self.device
        if not self.plan.secure:
            raise Malformed("the plan has no secure aggregation")
        who, whom, journal, state = device.identity, device.roster, device.journal, self.context.state
        if who is None or whom is None or journal is None:
            raise PlanError(
                "the node lacks identity, roster or state", "give all three in --node-config, see the docs"
            )
        if not whom.admits(who.public, who.certificate):
            raise DataError(
                "the node's own identity is not on its roster",
                "add its public key to the roster, or give the node the right identity or certificate",
            )
        session = make_session(self.plan, self.run, round)
        return SecureRound(session, self.mechanism, who, whom, journal, state)

    def check_ledger(self, round: int) -> None:
        """Check that the device's ledger covers a round; nothing is charged."""
        if self.device.spending is not None:
            self.device.spending.check(self.plan, self.run, round)

    def charge(self) -> None:
        """Charge the round to the device's ledger; when this returns, the charge is on disk."""
        if self.device.spending is not None:
            self.device.spending.charge(self.plan, self.run, self.offer.round)


Reply = tuple[Upload | None, dict[str, bytes]]
"""An upload or None, and the sections of secure aggregation."""


def make_app(open_device: Callable[[Context], Device]) -> ClientApp:
    """Return a ClientApp that answers offers with the device that `open_device` returns for the node's context."""
    app = ClientApp()

    def answering(answer: Callable[[AcceptedMessage], Reply]) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            return Message(_answer(message, context, open_device, answer), reply_to=message)

        return handle

    app.train()(answering(_take_part))
    kinds = {WHO: _who, KEYS: _keys, SHARES: _shares, BOXES: _boxes, CONSENT: _consent, UNMASK: _unmask}
    for kind, answer in kinds.items():
        app.query(kind.removeprefix("query."))(answering(answer))
    return app


def _answer(
    message: Message,
    context: Context,
    open_device: Callable[[Context], Device],
    answer: Callable[[AcceptedMessage], Reply],
) -> RecordDict:
    """Return the records of the reply: the answer, or the code of an error."""
    try:
        accepted = _accept_message(message, context, open_device)
        with accepted.record_refusals():
            accepted.device.terms.check(accepted.mechanism)
            read_history(context, accepted.run, accepted.plan)
            return _reply(Code.OK, *answer(accepted))
    except Exception as fault:
        code = _code(fault)
        _log("the device did not take part in the round", code, fault)
        return _reply(code, sections={"senders": fault.senders} if isinstance(fault, BadBoxes) else None)


def _log(what: str, code: Code, fault: Exception) -> None:
    """Write an error to the device's own log."""
    known = isinstance(fault, BractError)
    log.warning("%s (%s)", what, code, exc_info=fault if code is Code.FAILED and not known else None)
    match fault:
        case RepeatedStep():
            log.warning("the journal in the node's state folder has this step already")
        case BudgetSpent():
            log.warning("the device took part in this plan as often as its noise is calibrated for")
        case BractError() | Refused() | Malformed():
            log.warning("%s", fault)
        case _:
            pass


def _code(fault: Exception) -> Code:
    match fault:
        case Refused() | BudgetSpent() | BudgetError():
            return Code.REFUSED
        case Malformed() | RepeatedStep():
            return Code.MALFORMED
        case PlanError():
            return Code.PLAN
        case DataError():
            return Code.DATA
        case NotOnRoster():
            return Code.ROSTER
        case NoSeat():
            return Code.LOST
        case BadBoxes():
            return Code.SEALED
        case _:
            return Code.FAILED


def _accept_message(message: Message, context: Context, open_device: Callable[[Context], Device]) -> AcceptedMessage:
    """Return the message with its offer, if the device has not refused the run and the run has no other plan."""
    try:
        offer = read_offer(message.content.config_records[OFFER])
    except KeyError as fault:
        raise Malformed("there is no offer") from fault
    device, run = open_device(context), message.metadata.run_id
    charged, journal = message.metadata.message_type in AFTER_CHARGE, device.journal
    if journal is not None and not charged:
        journal.admit(run, device.terms)
    mechanism = device.accept(offer.plan)
    plan = mechanism.plan
    if offer.round > plan.cohort.rounds:
        raise Malformed("a round after the plan's last")
    if journal is not None and not charged:
        journal.enter(run, plan.digest, device.terms)
    elif journal is not None and not journal.entered(run, plan.digest):
        raise NoSeat  # the terms are not checked: no daily limit would count the answer
    return AcceptedMessage(message, context, offer, device, mechanism)


def _take_part(accepted: AcceptedMessage) -> Reply:
    """Train on the offered parameters; return the upload, and the card for the next round if requested."""
    offer, plan, device, mechanism = accepted.offer, accepted.plan, accepted.device, accepted.mechanism
    parameters = _parameters(accepted.message)
    if offer.scale != 1.0 and not plan.adaptive:
        raise Malformed("a scale although the plan does not adapt its clip norm")
    sections = accepted.sections(("cohort",), ("keys",)) if plan.secure else accepted.sections(())
    _check_participations(accepted)
    if len(parameters) != _check_trainable(accepted):
        raise Malformed("not as many parameters as the network has")
    records = fitting(device.records, plan)

    def draw(*purpose: str | int) -> Keystream:
        return device.entropy.keystream("device", accepted.context.node_id, offer.round, *purpose)

    layers = draw("layers").bytes(SEED_BYTES * len(mechanism.layers)) if mechanism.layers else b""
    masks = _join(accepted, sections, parameters, layers)
    _count_round(accepted)
    task = Task(mechanism, parameters, records, draw, offer.round, offer.scale, split_seeds(layers))
    upload = mask(device.contribute(task), mechanism, masks)
    card = _prepare_next(accepted, "card", lambda: _card(accepted, offer.round + 1)) if "keys" in sections else {}
    return upload, card | _context_signature(accepted)


def _context_signature(accepted: AcceptedMessage) -> dict[str, bytes]:
    """Return the signature on the context that the vector was masked for, if the round needs one."""
    signature = accepted.secure(accepted.offer.round).sign_context() if accepted.plan.secure else b""
    return {"signature": signature} if signature else {}


def _join(accepted: AcceptedMessage, sections: Sections, parameters: np.ndarray, layers: bytes) -> list[Mask]:
    """Return the masks of a round, none without secure aggregation; when this returns, the round is charged.

    If the masks cannot be made or the device's ledger refuses, the device forgets the round.
    """
    if not accepted.plan.secure:
        accepted.charge()
        return []
    secure = accepted.secure(accepted.offer.round)
    try:
        masks = secure.join(sections["cohort"], model_digest(parameters, accepted.offer.scale), layers)
        accepted.charge()
        return masks
    except Exception:
        secure.leave()
        raise


def _who(accepted: AcceptedMessage) -> Reply:
    """Return the device's name: its signed identity under secure aggregation, else its pseudonym."""
    accepted.sections(())
    device, plan = accepted.device, accepted.plan
    secure = plan.secure
    if device.spending is not None:
        device.spending.check_new_plan(plan, accepted.run)
    if secure and device.identity is not None:
        signature = introduce(device.identity, accepted.run, bytes.fromhex(plan.digest))
        return None, {"name": device.identity.public.hex().encode(), "signature": signature}
    if secure or device.pseudonym is None:
        raise PlanError("the node has no identity or no state", "give both in --node-config, see the docs")
    return None, {"name": device.pseudonym.of(accepted.plan.digest).encode()}


def _keys(accepted: AcceptedMessage) -> Reply:
    accepted.sections(())
    _check_participations(accepted)
    _check_trainable(accepted)
    return None, {"card": accepted.secure(accepted.offer.round).keys()}


def _card(accepted: AcceptedMessage, round: int) -> bytes:
    """Return the card for a later round, if the device's ledger covers it now."""
    accepted.check_ledger(round)
    return accepted.secure(round).keys()


def _shares(accepted: AcceptedMessage) -> Reply:
    sections = accepted.sections(("cards",))
    _check_participations(accepted)
    _check_trainable(accepted)
    return None, {"sealed": accepted.secure(accepted.offer.round).shares(sections["cards"])}


def _boxes(accepted: AcceptedMessage) -> Reply:
    """Answer whether the boxes for this device open. The device trains, masks and charges nothing."""
    sections = accepted.sections(("cohort",))
    accepted.secure(accepted.offer.round).acknowledge(sections["cohort"])
    return None, {}


def _consent(accepted: AcceptedMessage) -> Reply:
    sections = accepted.sections(("survivors",))
    return None, {"signature": accepted.secure(accepted.offer.round).consent(sections["survivors"])}


def _unmask(accepted: AcceptedMessage) -> Reply:
    """Open shares of this round's secrets, and seal shares of the next round's if requested."""
    sections, number = accepted.sections(("survivors",), ("signatures", "cards")), accepted.offer.round
    shares, layers = accepted.secure(number).unmask(sections["survivors"], sections.get("signatures"))
    opened = {"opened": shares} | ({"layers": layers} if layers else {})
    if "cards" not in sections:
        return None, opened
    return None, opened | _prepare_next(
        accepted, "sealed", lambda: accepted.secure(number + 1).shares(sections["cards"])
    )


def _prepare_next(accepted: AcceptedMessage, name: str, prepare: Callable[[], bytes]) -> dict[str, bytes]:
    """Return a section for the next round, or nothing on an error, which must not disturb the current round."""
    try:
        with accepted.record_refusals():
            return {name: prepare()}
    except Exception as fault:
        code = _code(fault)
        _log("the device did not prepare the next round", code, fault)
        return {}


def _parameters(message: Message) -> np.ndarray:
    try:
        [array] = message.content.array_records[PARAMETERS].values()
    except (KeyError, ValueError) as fault:
        raise Malformed("there are no parameters") from fault
    return read_parameters(array.dtype, array.shape, array.stype, array.data)


def _check_participations(accepted: AcceptedMessage) -> None:
    """Refuse a round that the node took part in before, or that exceeds its participations or its owner's limit."""
    rounds, last = read_history(accepted.context, accepted.run, accepted.plan)
    if rounds >= accepted.plan.participations:
        raise BudgetSpent
    if accepted.offer.round <= last:
        raise Malformed("this round was offered before")
    accepted.check_ledger(accepted.offer.round)


def _check_trainable(accepted: AcceptedMessage) -> int:
    """Return the number of the network's parameters, if the device can train the plan; nothing is charged.

    Everything that can fail is tried on made-up records. Only the shape and kind of the device's own records are
    checked, so whether a device answers reveals nothing about a record.

    Raises:
        PlanError: the network cannot be trained.
        DataError: the device's records have another shape or kind than the plan's.
    """
    count = try_training(accepted.plan)
    check_kind(accepted.device.records, accepted.plan)
    return count


def _count_round(accepted: AcceptedMessage) -> None:
    """Add this round to the node's history."""
    rounds, _ = read_history(accepted.context, accepted.run, accepted.plan)
    write_history(accepted.context, rounds + 1, accepted.offer.round, accepted.run, accepted.plan)


def _reply(code: Code, update: Upload | None = None, sections: Mapping[str, bytes] | None = None) -> RecordDict:
    records = RecordDict({ANSWER: ConfigRecord({"code": str(code)})})
    if update is not None:
        vector = update.vector
        array = Array(
            dtype="uint64", shape=tuple(vector.shape), stype=RAW, data=vector.astype("<u8", copy=False).tobytes()
        )
        records[UPDATE] = ArrayRecord({UPDATE: array})
    if sections:
        records[SECAGG] = ConfigRecord(dict(sections))
    return records


app = make_app(open_device)
