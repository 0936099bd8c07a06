"""A server that keeps no rules, and real ClientApps of devices with identities for it to try itself on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from devices import first_vector, make_message, node_context, random_records
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.step_journal import MemoryJournal
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.privacy import Contribution, Mechanism, Plan, make_plan, mechanism_of
from bract.privacy.messages import CONSENT, KEYS, OFFER, PARAMETERS, RAW, SECAGG, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import pack_consents
from bract.privacy.secagg.identity import Identity, Roster, new_identity, roster_of
from bract.privacy.secagg.keys import read_card
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.session import Session, make_session
from bract.privacy.secagg.unmask import unmask
from bract.privacy.server_view import ANSWER, UPDATE, Code

RUN, COUNT = 1, 51


@dataclass(repr=False)
class Member:
    """A device of the cohort: its app, its memory, who it is, and what it has to hide."""

    app: ClientApp
    context: Context
    identity: Identity
    journal: MemoryJournal
    vector: np.ndarray


@dataclass(repr=False)
class Lab:
    """What the server knows, and the devices in the order of their identities: device p has position p.

    The methods named after messages do what an honest server does, for the round `number`; `tell` sends anything.
    """

    plan: Plan
    members: list[Member]
    parameters: np.ndarray
    number: int = 1
    cohort: SeatedCohort | None = None
    replies: list[Message] = field(default_factory=list)
    sent: dict[int, np.ndarray] = field(default_factory=dict)
    vouched: dict[tuple[int, int], bytes] = field(default_factory=dict)

    @property
    def mechanism(self) -> Mechanism:
        return mechanism_of(self.plan)

    @property
    def session(self) -> Session:
        return make_session(self.plan, RUN, self.number)

    @property
    def everyone(self) -> list[int]:
        return list(range(len(self.members)))

    @property
    def model(self) -> bytes:
        return hashlib.sha256(self.parameters.astype("<f4").tobytes()).digest()

    def content(self, kind: str, sections: Mapping[str, bytes], parameters: np.ndarray | None = None) -> RecordDict:
        """The records of a message of this round, as they arrive."""
        offer = ConfigRecord({"round": self.number, "plan": self.plan.offered()})
        content = RecordDict({OFFER: offer})
        if kind == TRAIN:
            numbers = (self.parameters if parameters is None else parameters).astype("<f4")
            array = Array(dtype="float32", shape=numbers.shape, stype=RAW, data=numbers.tobytes())
            content[PARAMETERS] = ArrayRecord({PARAMETERS: array})
        if sections:
            content[SECAGG] = ConfigRecord(dict(sections))
        return content

    def send(self, place: int, content: RecordDict, kind: str) -> Message:
        """The device's reply to any content, which goes over the wire first."""
        member = self.members[place]
        arrived = recorddict_from_proto(recorddict_to_proto(content))
        self.replies.append(member.app(make_message(arrived, kind), member.context))
        said = self.replies[-1].content.config_records.get(SECAGG, {})
        if kind.startswith(TRAIN) and "signature" in said:
            self.vouched[self.number, place] = bytes(said["signature"])  # pyright: ignore
        return self.replies[-1]

    def tell(self, place: int, kind: str, parameters: np.ndarray | None = None, **sections: bytes) -> Message:
        """The device's reply to a message of this round with these sections."""
        return self.send(place, self.content(kind, sections, parameters), kind)

    def section(self, reply: Message, name: str) -> bytes:
        """What a device answers under this name."""
        assert code_of(reply) is Code.OK
        return bytes(reply.content.config_records[SECAGG][name])  # pyright: ignore

    def keys(self, number: int = 1) -> list[bytes]:
        """All devices' cards of a round; seats them."""
        self.number = number
        cards = [self.section(self.tell(p, KEYS), "card") for p in self.everyone]
        self.seat(cards)
        return cards

    def seat(self, cards: Iterable[bytes]) -> None:
        """Take these cards for the round's."""
        self.cohort = SeatedCohort(self.session, tuple(read_card(card, self.session.hybrid) for card in cards))

    def seating(self, place: int) -> bytes:
        """What the device is told of the others."""
        assert self.cohort is not None
        return self.cohort.seating(place).to_bytes()

    def shares(self, who: Iterable[int] | None = None) -> None:
        """Bring the boxes of these devices in."""
        assert self.cohort is not None
        for p in self.everyone if who is None else who:
            self.cohort.boxes[p] = self.section(self.tell(p, SHARES, cards=self.seating(p)), "sealed")

    def invitation(self, place: int) -> bytes:
        """Who is in the round, and the boxes for one device."""
        assert self.cohort is not None
        return self.cohort.invitation(place)

    def train(self, who: Iterable[int] | None = None) -> dict[int, np.ndarray]:
        """The masked words of these devices, by position."""
        places = self.everyone if who is None else who
        return {p: words_of(self.tell(p, TRAIN, cohort=self.invitation(p))) for p in places}

    def context_signatures(self, places: Iterable[int]) -> dict[str, bytes]:
        """The section that holds what these devices signed when they masked, in semi-honest mode."""
        if self.plan.malicious:
            return {}
        return {"signatures": pack_consents({p: self.vouched.get((self.number, p), bytes(64)) for p in places})}

    def bits(self, places: Iterable[int]) -> bytes:
        """A set of devices as it is sent."""
        return to_bits(places, len(self.members))

    def consent(self, survivors: Iterable[int], who: Iterable[int] | None = None) -> bytes:
        """The packed signatures of these devices, or of all survivors, of the list of survivors."""
        alive = list(survivors)
        bits = self.bits(alive)
        places = alive if who is None else who
        return pack_consents({p: self.section(self.tell(p, CONSENT, survivors=bits), "signature") for p in places})

    def unmask(self, survivors: Iterable[int], who: Iterable[int] | None = None, **more: bytes) -> dict[int, bytes]:
        """The shares that these devices, or all survivors, open."""
        alive = list(survivors)
        bits, places = self.bits(alive), alive if who is None else who
        more = self.context_signatures(alive) | more
        return {p: self.section(self.tell(p, UNMASK, survivors=bits, **more), "opened") for p in places}

    def until(self, stage: str) -> dict[int, np.ndarray]:
        """Lead all devices through the round until they are at this stage; what they sent when they trained."""
        stages = ("fresh", "keys", "shares", "masked", "agreed")
        reached, words = stages.index(stage), dict[int, np.ndarray]()
        if reached >= 1:
            self.keys(self.number)
        if reached >= 2:
            self.shares()
        if reached >= 3:
            words = self.train()
        if reached >= 4:
            self.consent(self.everyone)
        return words

    def opened(self, words: Mapping[int, np.ndarray], shares: Mapping[int, bytes]) -> np.ndarray:
        """What the sum of these words decodes to once the masks that the shares give are off."""
        assert self.cohort is not None
        total = np.sum([words[p] for p in sorted(words)], axis=0, dtype=np.uint64)
        unmask(total, self.cohort, shares, sorted(words), self.model)
        return self.mechanism.grid.ring.decode(total, self.mechanism.coordinates(COUNT))

    def true(self, places: Iterable[int]) -> np.ndarray:
        """The sum of what these devices hide."""
        return np.sum([self.members[p].vector for p in places], axis=0)

    def clear(self, place: int) -> np.ndarray:
        """What the device would send without masks."""
        return self.mechanism.grid.ring.encode(self.members[place].vector)

    def restart(self, place: int) -> None:
        """Start the device anew: it has lost its memory, and its journal only is left."""
        self.members[place].context = node_context()


def code_of(reply: Message) -> Code:
    return Code(str(reply.content.config_records[ANSWER]["code"]))


def words_of(reply: Message) -> np.ndarray:
    assert code_of(reply) is Code.OK
    [array] = reply.content.array_records[UPDATE].values()
    assert (array.dtype, array.stype) == ("uint64", RAW)
    return np.frombuffer(array.data, dtype="<u8")


def make_secure_plan(devices: int, **tables: dict[str, Any]) -> Plan:
    """A plan under masks for so many devices, with the keys of these tables."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"shape": [1, 2, 2], "classes": 3, "clients": devices},
        "model": {"name": "tiny"},
        "training": {"batch_size": 8, "learning_rate": 0.5},
        "cohort": {"rounds": 4, "size": devices, "minimum": 2},
        "privacy": {"noise": "local", "delta": 1e-3, "sampling_rate": 0.5, "noise_multiplier": 3.0},
        "aggregation": {"protocol": "secagg"},
    }
    return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)


def make_lab(
    devices: int = 3,
    terms: Terms | None = None,
    real: bool = False,
    records: int = 6,
    roster: Roster | None = None,
    identities: list[Identity] | None = None,
    **tables: dict[str, Any],
) -> Lab:
    """So many devices under terms, and a plan with these tables; if `real`, they train on records."""
    ids = sorted(identities or [new_identity() for _ in range(devices)], key=lambda one: one.public)
    plan = make_secure_plan(devices, **tables)
    mechanism = mechanism_of(plan)
    known = roster or roster_of(ids)
    rng, most = np.random.default_rng(devices), mechanism.grid.ring.bound(plan.cohort.size)
    members: list[Member] = []
    for place, identity in enumerate(ids):
        hidden = rng.integers(-most, most, mechanism.coordinates(COUNT), dtype=np.int64, endpoint=True)
        journal = MemoryJournal()
        device = Device(
            random_records(records, seed=place),
            terms or Terms(),
            contribute=contribution if real else _telling(hidden),
            identity=identity,
            roster=known,
            journal=journal,
        )
        members.append(Member(make_app(_opening(device)), node_context(), identity, journal, hidden))
    return Lab(plan, members, first_vector(plan))


def _telling(vector: np.ndarray) -> Callable[[Task], Contribution]:
    return lambda task: Contribution(vector.copy())


def _opening(device: Device) -> Callable[[Context], Device]:
    return lambda _: device
