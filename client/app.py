"""The Flower ClientApp: offer in, protected update out, and nothing else ever."""

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
    ANSWER,
    BOXES,
    CONSENT,
    KEYS,
    OFFER,
    PARAMETERS,
    RAW,
    SECAGG,
    SHARES,
    UNMASK,
    UPDATE,
    WHO,
    Code,
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
from .device import Device, open_device
from .mask import mask
from .memory.run_history import read_history, write_history
from .memory.step_journal import Repeated
from .records import check_kind, fitting
from .secure_round import BadlySealed, BudgetSpent, Lost, SecureRound, Stranger
from .terms import Refused
from .train import Task, try_training

log = logging.getLogger("bract.client")
log.addFilter(Printable())

LATE = (CONSENT, UNMASK)
"""The kinds of message that belong to a round which is paid for: a device that refuses its run still ends it."""


@dataclass(frozen=True, repr=False)
class Visit:
    """One message at one device, its offer read and its plan accepted."""

    message: Message
    context: Context
    offer: Offer
    device: Device
    mechanism: Mechanism

    @property
    def plan(self) -> Plan:
        """The mechanism's."""
        return self.mechanism.plan

    @property
    def run(self) -> int:
        """Flower's number of the message's run; that of the context is that of the first run of a series."""
        return self.message.metadata.run_id

    @contextmanager
    def final(self) -> Generator[None]:
        """Note a refusal on disk before it leaves: the device then refuses the run for good, whatever is offered."""
        try:
            yield
        except (Refused, BudgetError):
            if self.device.journal is not None and self.message.metadata.message_type not in LATE:
                self.device.journal.refuse(self.run)
            raise

    def sections(self, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> Sections:
        """Return what the message says of secure aggregation."""
        return read_sections(self.message.content.config_records.get(SECAGG, ConfigRecord()), needed, also)

    def secure(self, round: int) -> SecureRound:
        """Return the device's side of a round of secure aggregation.

        Raises:
            Malformed: the plan has none.
            PlanError: the device has no identity, roster or journal.
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
                "add its public key to the roster, or give the node the identity or the certificate that is meant",
            )
        session = make_session(self.plan, self.run, round)
        return SecureRound(session, self.mechanism, who, whom, journal, state)

    def afford(self, round: int) -> None:
        """Refuse a round that the device's ledger would refuse; nothing is charged."""
        if self.device.spending is not None:
            self.device.spending.check(self.plan, self.run, round)

    def charge(self) -> None:
        """Charge the round to the device's ledger; when this returns, the charge is on disk."""
        if self.device.spending is not None:
            self.device.spending.charge(self.plan, self.run, self.offer.round)


Reply = tuple[Upload | None, dict[str, bytes]]
"""An update or none, and what is to be said of secure aggregation."""


def make_app(open_device: Callable[[Context], Device]) -> ClientApp:
    """Return a ClientApp that answers offers with what `open_device` gives for the node's context."""
    app = ClientApp()

    def answering(answer: Callable[[Visit], Reply]) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            return Message(_answer(message, context, open_device, answer), reply_to=message)

        return handle

    app.train()(answering(_take_part))
    kinds = {WHO: _who, KEYS: _keys, SHARES: _shares, BOXES: _boxes, CONSENT: _consent, UNMASK: _unmask}
    for kind, answer in kinds.items():
        app.query(kind.removeprefix("query."))(answering(answer))
    return app


def _answer(
    message: Message, context: Context, open_device: Callable[[Context], Device], answer: Callable[[Visit], Reply]
) -> RecordDict:
    """Return the records of the reply: what was asked for, or a code that says why there is none."""
    try:
        visit = _visit(message, context, open_device)
        with visit.final():
            visit.device.terms.check(visit.mechanism)
            read_history(context, visit.run, visit.plan)
            return _reply(Code.OK, *answer(visit))
    except Exception as fault:
        code = _code(fault)
        _log("round not taken part in", code, fault)
        return _reply(code, sections={"senders": fault.senders} if isinstance(fault, BadlySealed) else None)


def _log(what: str, code: Code, fault: Exception) -> None:
    """Say in the device's own log what is wrong."""
    known = isinstance(fault, BractError)
    log.warning("%s (%s)", what, code, exc_info=fault if code is Code.FAILED and not known else None)
    match fault:
        case Repeated():
            log.warning("the node's state folder says that this was done before")
        case BudgetSpent():
            log.warning("the device took part in this plan as often as its noise was sized for")
        case BractError() | Refused() | Malformed():
            log.warning("%s", fault)
        case _:
            pass


def _code(fault: Exception) -> Code:
    match fault:
        case Refused() | BudgetSpent() | BudgetError():
            return Code.REFUSED
        case Malformed() | Repeated():
            return Code.MALFORMED
        case PlanError():
            return Code.PLAN
        case DataError():
            return Code.DATA
        case Stranger():
            return Code.ROSTER
        case Lost():
            return Code.LOST
        case BadlySealed():
            return Code.SEALED
        case _:
            return Code.FAILED


def _visit(message: Message, context: Context, open_device: Callable[[Context], Device]) -> Visit:
    """Return the visit of a message: its run is one that the device has not refused, its plan the run's only one."""
    try:
        offer = read_offer(message.content.config_records[OFFER])
    except KeyError as fault:
        raise Malformed("there is no offer") from fault
    device, run = open_device(context), message.metadata.run_id
    late, journal = message.metadata.message_type in LATE, device.journal
    if journal is not None and not late:
        journal.admit(run, device.terms)
    mechanism = device.accept(offer.plan)
    plan = mechanism.plan
    if offer.round > plan.cohort.rounds:
        raise Malformed("a round after the plan's last")
    if journal is not None and not late:
        journal.enter(run, plan.digest, device.terms)
    elif journal is not None and not journal.entered(run, plan.digest):
        raise Lost  # the terms are not looked at: their answer would be one that no day's limit counts
    return Visit(message, context, offer, device, mechanism)


def _take_part(visit: Visit) -> Reply:
    """Train on the offered parameters and return what may leave, with the card for the next round if asked for."""
    offer, plan, device, mechanism = visit.offer, visit.plan, visit.device, visit.mechanism
    parameters = _parameters(visit.message)
    if offer.scale != 1.0 and not plan.adaptive:
        raise Malformed("a scale although the plan does not adapt its clip norm")
    sections = visit.sections(("cohort",), ("keys",)) if plan.secure else visit.sections(())
    _fresh(visit)
    if len(parameters) != _able(visit):
        raise Malformed("not as many parameters as the network has")
    records = fitting(device.records, plan)

    def draw(*purpose: str | int) -> Keystream:
        return device.entropy.keystream("device", visit.context.node_id, offer.round, *purpose)

    layers = draw("layers").bytes(SEED_BYTES * len(mechanism.layers)) if mechanism.layers else b""
    masks = _join(visit, sections, parameters, layers)
    _count_round(visit)
    task = Task(mechanism, parameters, records, draw, offer.round, offer.scale, split_seeds(layers))
    upload = mask(device.contribute(task), mechanism, masks)
    card = _besides(visit, "card", lambda: _card(visit, offer.round + 1)) if "keys" in sections else {}
    return upload, card | _vouched(visit)


def _vouched(visit: Visit) -> dict[str, bytes]:
    """Return the signature of what the vector was masked for, where the round needs one."""
    signature = visit.secure(visit.offer.round).vouch() if visit.plan.secure else b""
    return {"signature": signature} if signature else {}


def _join(visit: Visit, sections: Sections, parameters: np.ndarray, layers: bytes) -> list[Mask]:
    """Return the masks of a round, none for one in the clear; when this returns, the round is paid for.

    If there are none to be had, or the device's ledger refuses, the device forgets the round.
    """
    if not visit.plan.secure:
        visit.charge()
        return []
    secure = visit.secure(visit.offer.round)
    try:
        masks = secure.join(sections["cohort"], model_digest(parameters, visit.offer.scale), layers)
        visit.charge()
        return masks
    except Exception:
        secure.leave()
        raise


def _who(visit: Visit) -> Reply:
    """Return the name that the device is counted by: of its identity on the roster, signed, else a pseudonym."""
    visit.sections(())
    device, plan = visit.device, visit.plan
    secure = plan.secure
    if device.spending is not None:
        device.spending.welcome(plan, visit.run)
    if secure and device.identity is not None:
        signature = introduce(device.identity, visit.run, bytes.fromhex(plan.digest))
        return None, {"name": device.identity.public.hex().encode(), "signature": signature}
    if secure or device.pseudonym is None:
        raise PlanError("the node has no identity or no state", "give both in --node-config, see the docs")
    return None, {"name": device.pseudonym.of(visit.plan.digest).encode()}


def _keys(visit: Visit) -> Reply:
    visit.sections(())
    _fresh(visit)
    _able(visit)
    return None, {"card": visit.secure(visit.offer.round).keys()}


def _card(visit: Visit, round: int) -> bytes:
    """Return the card for a round to come, if the device could pay for it today."""
    visit.afford(round)
    return visit.secure(round).keys()


def _shares(visit: Visit) -> Reply:
    sections = visit.sections(("cards",))
    _fresh(visit)
    _able(visit)
    return None, {"sealed": visit.secure(visit.offer.round).shares(sections["cards"])}


def _boxes(visit: Visit) -> Reply:
    """Say whether the boxes that were sealed for the device open; nothing is trained, masked or paid."""
    sections = visit.sections(("cohort",))
    visit.secure(visit.offer.round).acknowledge(sections["cohort"])
    return None, {}


def _consent(visit: Visit) -> Reply:
    sections = visit.sections(("survivors",))
    return None, {"signature": visit.secure(visit.offer.round).consent(sections["survivors"])}


def _unmask(visit: Visit) -> Reply:
    """Open shares of this round's secrets; with them seal those of the next round's, if asked for."""
    sections, number = visit.sections(("survivors",), ("signatures", "cards")), visit.offer.round
    shares, layers = visit.secure(number).unmask(sections["survivors"], sections.get("signatures"))
    opened = {"opened": shares} | ({"layers": layers} if layers else {})
    if "cards" not in sections:
        return None, opened
    return None, opened | _besides(visit, "sealed", lambda: visit.secure(number + 1).shares(sections["cards"]))


def _besides(visit: Visit, name: str, prepare: Callable[[], bytes]) -> dict[str, bytes]:
    """Return what a device gives for the next round; a fault there takes nothing from the round under way."""
    try:
        with visit.final():
            return {name: prepare()}
    except Exception as fault:
        code = _code(fault)
        _log("next round not prepared", code, fault)
        return {}


def _parameters(message: Message) -> np.ndarray:
    try:
        [array] = message.content.array_records[PARAMETERS].values()
    except (KeyError, ValueError) as fault:
        raise Malformed("there are no parameters") from fault
    return read_parameters(array.dtype, array.shape, array.stype, array.data)


def _fresh(visit: Visit) -> None:
    """Refuse a round that the node took part in before, one too many, or one that its owner's limit forbids."""
    rounds, last = read_history(visit.context, visit.run, visit.plan)
    if rounds >= visit.plan.participations:
        raise BudgetSpent
    if visit.offer.round <= last:
        raise Malformed("this round was offered before")
    visit.afford(visit.offer.round)


def _able(visit: Visit) -> int:
    """Refuse a plan that the device cannot train, or whose records its own are not like; nothing is charged.

    Return how many parameters the plan's network has. All that can fail is tried on made-up records, and of the
    device's own only shape and kind are looked at, so that whether a device answers tells nothing of a record.
    """
    count = try_training(visit.plan)
    check_kind(visit.device.records, visit.plan)
    return count


def _count_round(visit: Visit) -> None:
    """Count this round in the node's own state."""
    rounds, _ = read_history(visit.context, visit.run, visit.plan)
    write_history(visit.context, rounds + 1, visit.offer.round, visit.run, visit.plan)


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
