"""A server that keeps no rules, the devices that work with it, and the real ClientApps of those that do not.

The server is given whatever an attacker has: all that its own devices hold, every answer, every box. It may show any
device any cohort, members and survivors, in any order, twice, for several rounds, runs and plans at once; and it may
make a device lose its memory, or put an earlier one back. What it can read of all this is computed: `World.readable`
recovers every secret that its shares determine, and asks `knowledge` which sums of honest vectors open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from knowledge import Opened, Row, sums_that_open

from bract.client import mask as last_step
from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.step_journal import Journal, MemoryJournal
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy import Contribution, Plan
from bract.privacy.accept import accept_offer
from bract.privacy.messages import (
    BOXES,
    CONSENT,
    KEYS,
    OFFER,
    PARAMETERS,
    RAW,
    SECAGG,
    SHARES,
    TRAIN,
    UNMASK,
    model_digest,
)
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import consent, pack_consents, sign_context
from bract.privacy.secagg.identity import Identity, new_identity, roster_of
from bract.privacy.secagg.keys import (
    Card,
    Keypair,
    RoundSecrets,
    commitment,
    make_card,
    new_secrets,
    own_key,
    pair_key,
    read_card,
)
from bract.privacy.secagg.masks import Mask, add_masks
from bract.privacy.secagg.session import Session, make_session
from bract.privacy.secagg.shamir import SHARE_BYTES, combine, is_share
from bract.privacy.secagg.shares import SecretShares, box_bytes, seal, unseal
from bract.privacy.server_view import ANSWER, UPDATE, Code

BITS = np.uint64
Round = tuple[int, int, int]
"""Which plan, which run, which round."""


@lru_cache(maxsize=8)
def identities(count: int, of: str = "the roster") -> list[Identity]:
    """So many identities, in order, the same for all examples: the keys of a round are fresh in any case."""
    del of
    return sorted((new_identity() for _ in range(count)), key=lambda identity: identity.public)


@dataclass(repr=False, eq=False)
class Honest:
    """A device that keeps the rules: a real app, its memory by run, and its disk."""

    place: int
    identity: Identity
    journal: Journal
    records: Any
    app: Any = None
    memory: dict[int, Context] = field(default_factory=dict[int, Context])


@dataclass(frozen=True)
class Table:
    """A seating that the server shows to devices: the cards of a round, in the order of their identities."""

    round: Round
    session: Session
    cards: tuple[Card, ...]

    @cached_property
    def digest(self) -> bytes:
        """The digest of all cards."""
        return self.session.cards_digest([card.to_bytes() for card in self.cards])

    def seating(self, place: int) -> bytes:
        """What the device at this place is told of the others; no rule keeps the server from any table."""
        head = len(self.cards).to_bytes(4) + place.to_bytes(4) + self.digest
        return head + b"".join(card.to_bytes() for card in self.cards)

    def place(self, card: Card) -> int:
        return self.cards.index(card)


@dataclass(frozen=True, eq=False, repr=False)
class Sealing:
    """What one device sealed once: the table that it was shown, a box for each of the others, and what is known."""

    table: Table
    card: Card
    boxes: Mapping[Card, bytes]
    own: dict[int, bytes] = field(default_factory=dict[int, bytes])
    mask: dict[int, bytes] = field(default_factory=dict[int, bytes])

    def point(self, holder: Card) -> int:
        """The point at which this device holds shares."""
        return self.table.place(holder) + 1


@dataclass(frozen=True, eq=False, repr=False)
class Sent:
    """A masked vector that the server got, with what only its owner knows: the vector, and its masks."""

    owner: int
    plan: Plan
    table: Table
    card: Card
    members: tuple[int, ...]
    context: bytes
    delivered: Mapping[int, Sealing]
    words: np.ndarray
    clear: np.ndarray
    masks: tuple[Mask, ...]

    @property
    def vector(self) -> tuple[int, int, int]:
        """What names the vector: a device that is asked twice in one round of a run could mask the same one twice."""
        return self.owner, self.table.round[1], self.table.round[2]

    def without(self, gone: Iterable[bytes]) -> list[int]:
        """The places of the members that are not the owners of these identities."""
        lost = set(gone)
        return [place for place in self.members if self.table.cards[place].identity not in lost]


@dataclass(frozen=True)
class Reading:
    """A sum that the server can read: whose vectors are in it, and how many devices were seated at most."""

    owners: frozenset[int]
    seated: int
    plan: Plan


class AnsweredTwice(AssertionError):
    """A device signed or opened for two requests, or for one in two ways."""


class World:
    """All honest devices, and the server with all that it ever was given.

    `plans` may be used at will; the first `colluders` identities of the roster work with the server.
    """

    def __init__(
        self,
        plans: list[Plan],
        honest: int,
        colluders: int,
        terms: Terms,
        contribute: Callable[[Task], Contribution],
        records: Callable[[int], Any],
        parameters: np.ndarray,
        journal: Callable[[int], Journal] = lambda _: MemoryJournal(),
        stride: int = 3,
    ) -> None:
        everyone = identities(honest + colluders)
        bad = sorted(range(len(everyone)), key=lambda place: (place * stride + 1) % len(everyone))[:colluders]
        self.colluders = [everyone[place] for place in sorted(bad)]
        owners = [identity for place, identity in enumerate(everyone) if place not in bad]
        self.strangers = identities(16, "nobody's roster")
        roster = roster_of(everyone)
        self.plans, self.parameters, self.sent = plans, parameters, list[Sent]()
        self.honest = [Honest(p, identity, journal(p), records(p)) for p, identity in enumerate(owners)]
        self.by_key = {device.identity.public: device for device in self.honest}
        for device in self.honest:
            made = Device(
                device.records,
                terms,
                accept=_accept,
                contribute=contribute,
                identity=device.identity,
                roster=roster,
                journal=device.journal,
            )
            device.app = make_app(lambda _, made=made: made)
        self._secrets: dict[Card, RoundSecrets] = {}
        self._current: dict[tuple[Round, bytes], Card] = {}
        self._sealings: dict[Card, list[Sealing]] = {}
        self._signed: dict[tuple[bytes, bytes], dict[bytes, bytes]] = {}
        self._opened: dict[tuple[bytes, bytes], bytes] = {}
        self._given: dict[tuple[int, Round, str], object] = {}
        self.asked: list[tuple[int, Round, str, dict[str, bytes]]] = []
        self.news = 0
        """Grows with all that may open a sum: a vector, or a device's shares."""
        self._overheard: list[tuple[np.ndarray, tuple[Mask, ...]]] = []

    # what is said to a device

    def session(self, round: Round) -> Session:
        plan, run, number = round
        return make_session(self.plans[plan], run, number)

    def tell(self, device: Honest, round: Round, kind: str, **sections: bytes) -> Message:
        """The device's reply to any message."""
        plan, run, number = round
        self.asked.append((device.place, round, kind, sections))
        content = RecordDict({OFFER: ConfigRecord({"round": number, "plan": _text(self.plans[plan])})})
        if kind == TRAIN:
            numbers = self.parameters.astype("<f4")
            array = Array(dtype="float32", shape=numbers.shape, stype=RAW, data=numbers.tobytes())
            content[PARAMETERS] = ArrayRecord({PARAMETERS: array})
        if sections:
            content[SECAGG] = ConfigRecord(dict(sections))
        message = Message(content, device.place, kind, ttl=60.0, group_id="1")
        message.metadata.__dict__.update(_message_id="7", _run_id=run)
        if run not in device.memory:
            device.memory[run] = Context(
                run_id=run, node_id=device.place, node_config={}, state=RecordDict(), run_config={}
            )
        reply = device.app(message, device.memory[run])
        if kind in (CONSENT, UNMASK) and code_of(reply) is Code.OK:
            given = sections, dict(reply.content.config_records[SECAGG])
            if self._given.setdefault((device.place, round, kind), given) != given:
                raise AnsweredTwice(f"{kind} was answered in two ways")
        return reply

    def keys(self, device: Honest, round: Round) -> Card | None:
        """A new card of the device, or none if it refuses."""
        reply = self.tell(device, round, KEYS)
        if code_of(reply) is not Code.OK:
            return None
        card = read_card(_section(reply, "card"), self.session(round).hybrid)
        self._current[round, card.identity] = card
        return card

    def card(self, device: Honest, round: Round) -> Card | None:
        """The device's last card of the round; it is asked for one if it has shown none."""
        return self._current.get((round, device.identity.public)) or self.keys(device, round)

    def seat(
        self, round: Round, devices: Iterable[Honest], colluders: int | None = None, strangers: int = 0
    ) -> Table:
        """A table of these devices, as far as they show cards, and of so many colluders, all unless said.

        `strangers` are as many more devices of the server's own, of which no roster knows.
        """
        session = self.session(round)
        cards = [card for device in devices if (card := self.card(device, round)) is not None]
        for identity in [*self.colluders[:colluders], *self.strangers[:strangers]]:
            if (round, identity.public) not in self._current:
                secrets = new_secrets()
                card = make_card(secrets, identity, session.digest, session.hybrid)
                self._secrets[card] = secrets
                self._current[round, identity.public] = card
            cards.append(self._current[round, identity.public])
        return Table(round, session, tuple(sorted(cards, key=lambda card: card.identity)))

    def at(self, table: Table, devices: Iterable[Honest] | None = None) -> list[Honest]:
        """The honest devices, of these or of all, that sit at the table."""
        cards = {card.identity for card in table.cards}
        return [d for d in (self.honest if devices is None else devices) if d.identity.public in cards]

    def shares(self, device: Honest, table: Table) -> bool:
        """Whether the device sealed its boxes for those at the table; the colluders open theirs at once."""
        card = self._card_at(table, device)
        reply = self.tell(device, table.round, SHARES, cards=table.seating(table.place(card)))
        if code_of(reply) is not Code.OK:
            return False
        sealed, boxes = _section(reply, "sealed"), dict[Card, bytes]()
        for receiver in (other for other in table.cards if other != card):
            size = box_bytes(table.session.hybrid, card.identity < receiver.identity)
            boxes[receiver], sealed = sealed[:size], sealed[size:]
        sealing = Sealing(table, card, boxes)
        self._sealings.setdefault(card, []).append(sealing)
        for receiver, box in boxes.items():
            if receiver in self._secrets:
                held = unseal(self._secrets[receiver], card, receiver, box, table.session.digest).held
                self._learn(sealing, receiver, own=held.own, mask=held.mask)
        return True

    def sealed(self, card: Card, receiver: Card, table: Table) -> Sealing | None:
        """What the owner of a card sealed for the receiver, last; a colluder seals whatever it is asked to."""
        if card in self._secrets:
            box = seal(self._secrets[card], card, receiver, SecretShares(bytes(33), bytes(33)), table.session.digest)
            return Sealing(table, card, {receiver: box})
        made = [sealing for sealing in self._sealings.get(card, []) if receiver in sealing.boxes]
        return made[-1] if made else None

    def boxes(self, device: Honest, table: Table, gone: Iterable[bytes] = ()) -> bool:
        """Whether the device says that the boxes open which `train` would bring it."""
        invited = self._invite(device, table, gone)
        if invited is None:
            return False
        *_, bits, boxes = invited
        return code_of(self.tell(device, table.round, BOXES, cohort=bits + boxes)) is Code.OK

    def _invite(
        self, device: Honest, table: Table, gone: Iterable[bytes]
    ) -> tuple[Card, Table, dict[int, Sealing], tuple[int, ...], bytes, bytes] | None:
        """The device's card and table, what others sealed for it, the members, and both as they are sent.

        A device sits where it shared its secrets; the given table is for one that has shared none.
        """
        card = self._current.get((table.round, device.identity.public))
        if card is None:
            return None
        if made := self._sealings.get(card):
            table = made[-1].table
        elif card not in table.cards:
            return None
        lost = set(gone)
        me, wanted = table.place(card), [p for p, c in enumerate(table.cards) if c.identity not in lost]
        sealings = {p: self.sealed(table.cards[p], card, table) for p in wanted if p != me}
        delivered = {p: sealing for p, sealing in sealings.items() if sealing is not None}
        everyone = tuple(sorted({*delivered, me}))
        bits = to_bits(everyone, len(table.cards))
        boxes = b"".join(delivered[p].boxes[card] for p in everyone if p != me)
        return card, table, delivered, everyone, bits, boxes

    def train(self, device: Honest, table: Table, gone: Iterable[bytes] = ()) -> bool:
        """Whether the device masked a vector for all at the table but these: as far as they sealed it a box."""
        invited = self._invite(device, table, gone)
        if invited is None:
            return False
        card, table, delivered, everyone, bits, boxes = invited
        self._overheard.clear()
        reply = self.tell(device, table.round, TRAIN, cohort=bits + boxes)
        if code_of(reply) is not Code.OK:
            return False
        [(clear, masks)] = self._overheard
        [array] = reply.content.array_records[UPDATE].values()
        words = np.frombuffer(array.data, dtype="<u8").astype(BITS)
        context = table.session.context(table.digest, bits, model_digest(self.parameters, 1.0))
        plan = self.plans[table.round[0]]
        sent = Sent(device.place, plan, table, card, everyone, context, delivered, words, clear, masks)
        if not plan.malicious:
            self._signed.setdefault((context, b""), {})[device.identity.public] = _section(reply, "signature")
        self.sent.append(sent)
        self.news += 1
        return True

    def consent(self, device: Honest, round: Round, gone: Iterable[bytes] = ()) -> bool:
        """Whether the device signed that all members but the owners of these identities survived."""
        sent = self.masked(device, round)
        if sent is None:
            return False
        bits = to_bits(sent.without(gone), len(sent.table.cards))
        reply = self.tell(device, round, CONSENT, survivors=bits)
        if code_of(reply) is not Code.OK:
            return False
        self._signed.setdefault((sent.context, bits), {})[device.identity.public] = _section(reply, "signature")
        return True

    def unmask(self, device: Honest, round: Round, gone: Iterable[bytes] = ()) -> bool:
        """Whether the device opened its shares for such a list; all signatures that there are go with it."""
        sent = self.masked(device, round)
        if sent is None:
            return False
        alive, table = set(sent.without(gone)), sent.table
        bits = to_bits(alive, len(table.cards))
        sections = {"survivors": bits, "signatures": pack_consents(self.signatures(sent, bits, alive))}
        reply = self.tell(device, round, UNMASK, **sections)
        if code_of(reply) is not Code.OK:
            return False
        self.news += 1
        opened = _section(reply, "opened")
        sealings = dict(sent.delivered) | {table.place(sent.card): self._sealings[sent.card][-1]}
        for at, member in enumerate(sent.members):
            share = opened[SHARE_BYTES * at : SHARE_BYTES * (at + 1)]
            self._learn(sealings[member], sent.card, **{"own" if member in alive else "mask": share})
        return True

    def end(self, round: Round, gone: Mapping[int, Iterable[bytes]]) -> list[bool]:
        """Show devices, by number, each its own list of survivors: all but who is gone for it; who opened its shares.

        Where survivors sign, all sign before any is asked for shares.
        """
        if self.plans[round[0]].malicious:
            for number, lost in gone.items():
                self.consent(self.honest[number], round, lost)
        return [self.unmask(self.honest[number], round, lost) for number, lost in gone.items()]

    def signatures(self, sent: Sent, bits: bytes, alive: set[int]) -> dict[int, bytes]:
        """All signatures that the device may want to see which the server has or its devices make, by place.

        Where survivors sign, those of the list; else those of what the device itself masked its vector for.
        """
        lists = sent.plan.malicious
        signed = {
            i.public: consent(i, sent.context, bits) if lists else sign_context(i, sent.context)
            for i in self.colluders
        }
        signed |= self._signed.get((sent.context, bits if lists else b""), {})
        cards = sent.table.cards
        return {p: signed[cards[p].identity] for p in sorted(alive) if cards[p].identity in signed}

    def masked(self, device: Honest, round: Round) -> Sent | None:
        """The last vector that the device masked in the round."""
        found = [s for s in self.sent if s.owner == device.place and s.table.round == round]
        return found[-1] if found else None

    def again(self, message: int) -> None:
        """Send a message that was sent before once more."""
        place, round, kind, sections = self.asked[message % len(self.asked)]
        self._overheard.clear()
        if code_of(self.tell(self.honest[place], round, kind, **sections)) is Code.OK and kind == TRAIN:
            raise AssertionError(f"{kind} was answered twice")

    def restart(self, device: Honest) -> None:
        """The device loses all that is not on its disk."""
        device.memory.clear()

    def snapshot(self, device: Honest) -> dict[int, Any]:
        """What the device has in its memory."""
        return {run: recorddict_to_proto(context.state) for run, context in device.memory.items()}

    def put_back(self, device: Honest, memory: Mapping[int, Any]) -> None:
        """Put an earlier memory back, as if the node had been lost before it was written."""
        for run, state in memory.items():
            device.memory[run].state = recorddict_from_proto(state)

    # what is known

    def readable(self) -> list[Reading]:
        """All sums of honest vectors that the server can read, each the least of those that hang together.

        Every one is read: the masks that are known come off, and what is left is the sum of the vectors.
        """
        known = [self._known(sent) for sent in self.sent]
        rows: list[Row] = []
        for sent, keys in zip(self.sent, known, strict=True):
            row: dict[bytes, int] = {}
            for mask in sent.masks:
                if mask.key not in keys:
                    row[mask.key] = row.get(mask.key, 0) + mask.sign
            rows.append(row)
        readings: list[Reading] = []
        for found in sums_that_open(rows, [sent.vector for sent in self.sent]):
            self._read(found, known)
            inside = [sent for sent in self.sent if sent.vector in found.left]
            seated = max(len(sent.table.cards) for sent in inside)
            readings.append(Reading(frozenset(sent.owner for sent in inside), seated, inside[0].plan))
        return readings

    def _read(self, found: Opened, known: list[set[bytes]]) -> None:
        scale = int(np.lcm.reduce([factor.denominator for factor in found.by.values()]))
        read, true = (np.zeros(len(self.sent[next(iter(found.by))].words), dtype=BITS) for _ in range(2))
        for place, factor in found.by.items():
            sent, times = self.sent[place], BITS(int(factor * scale) % 2**64)
            words = sent.words.copy()
            add_masks(words, [Mask(mask.key, -mask.sign) for mask in sent.masks if mask.key in known[place]])
            read += times * words
            true += times * sent.clear
        assert np.array_equal(read, true), "a sum that the judge calls open does not open"

    def _known(self, sent: Sent) -> set[bytes]:
        """The keys of this vector's masks that the server can make out of the secrets that it has."""
        keys = set[bytes]()
        if own := self._own(sent.card):
            keys.add(own_key(own, sent.card.identity, sent.context))
        mine = self._mask(sent.card)
        for place in sent.members:
            other = sent.table.cards[place]
            if other == sent.card:
                continue
            low, high = sorted((sent.card.identity, other.identity))
            if mine:
                keys.add(pair_key(mine, other.mask, low, high, sent.context, b""))
            elif theirs := self._mask(other):
                keys.add(pair_key(theirs, sent.card.mask, low, high, sent.context, b""))
        return keys

    def _own(self, card: Card) -> bytes | None:
        for sealing in self._sealings.get(card, []):
            secret = combine(sealing.own) if sealing.own else None
            if secret and commitment(secret) == card.commitment:
                return secret
        return None

    def _mask(self, card: Card) -> Keypair | None:
        if card in self._secrets:
            return self._secrets[card].mask
        for sealing in self._sealings.get(card, []):
            secret = combine(sealing.mask) if sealing.mask else None
            if secret and Keypair(secret).public(hybrid=False) == card.mask:
                return Keypair(secret)
        return None

    def _learn(self, sealing: Sealing, holder: Card, **shares: bytes) -> None:
        if sealing.card in self._secrets:
            return
        for kind, share in shares.items():
            if is_share(share):
                getattr(sealing, kind)[sealing.point(holder)] = share

    def _card_at(self, table: Table, device: Honest) -> Card:
        [card] = [card for card in table.cards if card.identity == device.identity.public]
        return card

    @contextmanager
    def overhearing(self) -> Any:
        """Note each vector and its masks where a device puts them on: no server sees that, but the judge needs it."""
        real = last_step.add_masks

        def listening(words: np.ndarray, masks: list[Mask]) -> None:
            self._overheard.append((words.astype(BITS), tuple(masks)))
            real(words, masks)

        last_step.add_masks = listening
        try:
            yield
        finally:
            last_step.add_masks = real


def code_of(reply: Message) -> Code:
    return Code(str(reply.content.config_records[ANSWER]["code"]))


def _section(reply: Message, name: str) -> bytes:
    return bytes(reply.content.config_records[SECAGG][name])  # pyright: ignore


_accept = lru_cache(maxsize=64)(accept_offer)
_text = lru_cache(maxsize=64)(Plan.offered)
