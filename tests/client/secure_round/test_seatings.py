"""A server that chooses whom it seats with whom, so that a sum holds fewer honest devices than the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from devices import node_context
from flwr.app import RecordDict
from secure_devices import make_lab, make_secure_plan

from bract.client.disk.step_journal import RepeatedStep
from bract.client.secure_round import SecureRound
from bract.client.terms import Terms
from bract.privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import consent, pack_consents, sign_context
from bract.privacy.secagg.graph import Graph
from bract.privacy.secagg.identity import Roster
from bract.privacy.secagg.keys import RoundSecrets, make_card, new_secrets, read_card
from bract.privacy.secagg.masking import Peer, masks_of
from bract.privacy.secagg.masks import add_masks
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.session import Session, make_session
from bract.privacy.secagg.shares import SecretShares, hashes, seal, split_secrets, unseal
from bract.privacy.secagg.unmask import unmask
from bract.privacy.server_view import Code

COLLUDING = (2, 5, 8)
"""The places, of ten devices, that are the server's own: as many as the default share of colluders withstands."""

HONEST = tuple(place for place in range(10) if place not in COLLUDING)
CELLS = ("local", "central", "distributed")


def ten(noise: str = "local", mode: str = "malicious-server", **tables: Any) -> Any:
    """Ten devices under a plan of ten that withstands three colluders, so that a sum opens over seven at least."""
    return make_lab(
        10,
        terms=Terms(trusted_server=True),
        model={"name": "tiny", "parameters": 51},
        privacy={"noise": noise},
        aggregation={"protocol": "secagg", "mode": mode, **tables},
    )


@dataclass(repr=False)
class Table:
    """Some honest devices that the server seats with its own, which answer as they should and tell it all."""

    server: Any
    honest: Sequence[int]
    colluding: Sequence[int] = COLLUDING
    secrets: dict[int, RoundSecrets] = field(default_factory=dict[int, RoundSecrets])
    held: dict[int, list[SecretShares]] = field(default_factory=dict[int, list[SecretShares]])
    cohort: Any = None
    words: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])
    vouched: dict[int, bytes] = field(default_factory=dict[int, bytes])
    refused: Any = None

    @property
    def places(self) -> list[int]:
        return sorted([*self.honest, *self.colluding])

    def ask(self, place: int, kind: str, name: str, **sections: bytes) -> bytes | None:
        """What an honest device answers; None, and the code is kept, if it refuses."""
        reply = self.server.tell(place, kind, **sections)
        try:
            return self.server.section(reply, name)
        except AssertionError:
            self.refused = (kind, str(reply.content.config_records["answer"]["code"]))
            return None

    def seat(self) -> bool:
        """Whether all honest devices share their keys with those at the table."""
        session, cards = self.server.session, {}
        for place in self.honest:
            card = self.ask(place, KEYS, "card")
            if card is None:
                return False
            cards[place] = read_card(card, session.hybrid)
        for place in self.colluding:
            self.secrets[place] = new_secrets()
            identity = self.server.members[place].identity
            cards[place] = make_card(self.secrets[place], identity, session.digest, session.hybrid)
        self.cohort = SeatedCohort(_seating(session, len(cards)), tuple(cards[place] for place in self.places))
        for at, place in enumerate(self.places):
            if place in self.honest:
                sealed = self.ask(place, SHARES, "sealed", cards=self.cohort.seating(at).to_bytes())
            else:
                sealed = self.sealed(at, self.secrets[place])
            if sealed is None:
                return False
            self.cohort.boxes[at] = sealed
        return True

    def shares(self, at: int, own: RoundSecrets) -> list[SecretShares]:
        return split_secrets(own, self.cohort.graph.threshold, range(len(self.places)))

    def sealed(self, at: int, own: RoundSecrets) -> bytes:
        cards, session, held = self.cohort.cards, self.cohort.session.digest, self.shares(at, own)
        self.held[at] = held
        boxes = (seal(own, cards[at], cards[to], held[to], session) for to in range(len(cards)) if to != at)
        return b"".join((*boxes, hashes(held[at], cards[at], cards[at], session)))

    def train(self) -> bool:
        """Whether all honest devices send their vectors; the server's own send zeros."""
        ring, size = self.server.mechanism.grid.ring, len(next(iter(self.server.members)).vector)
        for at, place in enumerate(self.places):
            if place in self.honest:
                reply = self.server.tell(place, TRAIN, cohort=self.cohort.invitation(at))
                if "update" not in reply.content.array_records:
                    self.refused = (TRAIN, str(reply.content.config_records["answer"]["code"]))
                    return False
                [array] = reply.content.array_records["update"].values()
                self.words[at] = np.frombuffer(array.data, dtype="<u8").copy()
                if not self.server.plan.malicious:
                    self.vouched[at] = self.server.section(reply, "signature")
                continue
            self.vouched[at] = sign_context(
                self.server.members[place].identity, self.cohort.context(self.server.model)
            )
            words = ring.encode(np.zeros(size, dtype=np.int64))
            context = self.cohort.context(self.server.model)
            peers = [Peer(card) for card in self.cohort.cards if card != self.cohort.cards[at]]
            masks = masks_of(self.secrets[place], self.cohort.cards[at], peers, self.cohort.session.digest, context)
            add_masks(words, masks)
            self.words[at] = words
        return True

    def open(self) -> np.ndarray | None:
        """The sum of the honest vectors, if the devices open it."""
        every, context = range(len(self.places)), self.cohort.context(self.server.model)
        bits = to_bits(every, len(self.places))
        signed: dict[int, bytes] = {}
        for at, place in enumerate(self.places if self.server.plan.malicious else []):
            if place in self.honest:
                signature = self.ask(place, CONSENT, "signature", survivors=bits)
            else:
                signature = consent(self.server.members[place].identity, context, bits)
            if signature is None:
                return None
            signed[at] = signature
        proof = {"signatures": pack_consents(signed or self.vouched)}
        opened: dict[int, bytes] = {}
        for at, place in enumerate(self.places):
            if place in self.honest:
                shares = self.ask(place, UNMASK, "opened", survivors=bits, **proof)
                if shares is None:
                    return None
                opened[at] = shares
            else:
                opened[at] = b"".join(self.known(at, member) for member in every)
        total = np.sum([self.words[at] for at in every], axis=0, dtype=np.uint64)
        unmask(total, self.cohort, opened, list(every), self.server.model)
        return self.server.mechanism.grid.ring.decode(total, len(self.server.members[0].vector))

    def known(self, at: int, member: int) -> bytes:
        """The share of a member's own mask that a device of the server's holds."""
        if member in self.held:
            return self.held[member][at].own
        session, cards = self.cohort.session, self.cohort.cards
        own = self.secrets[self.places[at]]
        return unseal(own, cards[member], cards[at], self.cohort.box(member, at), session.digest).held.own

    def read(self) -> np.ndarray | None:
        """What the server reads of the honest devices' sum, or None."""
        return self.open() if self.seat() and self.train() else None


def _seating(session: Session, seats: int) -> Session:
    """The session with a graph for so few, as a server would draw it that knows of no plan."""
    try:
        session.graph(seats)
    except ValueError:
        return replace(session, sparse=Graph(seats, seats - 1, min(seats, (seats + 3) // 2 + 1)))
    return session


def sum_of(server: Any, places: Sequence[int]) -> np.ndarray:
    return np.sum([server.members[place].vector for place in places], axis=0)


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
@pytest.mark.parametrize("noise", CELLS)
def test_no_device_is_read_where_each_sits_with_colluders(noise: str, mode: str) -> None:
    """Of seven honest devices seven vectors were read, all in one round."""
    server = ten(noise, mode)
    tables = [Table(server, [place]) for place in HONEST]
    assert [table.read() is None for table in tables] == [True] * 7
    assert {table.refused[0] for table in tables} == {SHARES}


def test_the_attack_reads_what_the_rule_allows() -> None:
    """A sum of seven, three of them the server's: four honest ones. Or the test above could not fail."""
    server = ten()
    table = Table(server, HONEST[:4])
    found = table.read()
    assert found is not None
    assert np.array_equal(found, sum_of(server, HONEST[:4]))


@pytest.mark.parametrize("honest", [1, 2, 3])
def test_no_sum_with_too_few_honest_devices_is_even_seated(honest: int) -> None:
    """The plan says how many there must be."""
    table = Table(ten(), HONEST[:honest])
    assert table.read() is None
    assert table.refused[0] == SHARES


@pytest.mark.parametrize("noise", CELLS)
def test_a_cohort_cut_into_two_sums_of_five_is_seated_nowhere(noise: str) -> None:
    server = ten(noise, "semi-honest")
    for half in (range(5), range(5, 10)):
        assert Table(server, list(half), ()).read() is None


def test_a_device_masks_in_one_seating_a_round() -> None:
    """Though it forgot the first."""
    server = ten()
    first = Table(server, HONEST[:4])
    assert first.seat()
    assert first.train()
    for place in HONEST[:4]:
        server.restart(place)
    second = Table(server, (HONEST[0], *HONEST[4:]))
    assert not second.seat()
    assert second.refused == (KEYS, Code.MALFORMED)


def test_keys_may_be_asked_for_again_before_anyone_has_masked() -> None:
    server = ten()
    assert Table(server, HONEST[:4]).seat()
    again = Table(server, HONEST[:4])
    found = again.read()
    assert found is not None
    assert np.array_equal(found, sum_of(server, HONEST[:4]))


def test_cards_shown_before_masking_bring_no_shares_after() -> None:
    """Its card of a second seating reaches it once it has masked in the first and its memory is as it was before."""
    server = ten()
    first = Table(server, HONEST[:4])
    assert first.seat()
    place = HONEST[0]
    memory = server.members[place].context
    late = node_context()
    server.members[place].context = late
    card = server.section(server.tell(place, KEYS), "card")
    server.members[place].context = memory
    assert first.train()
    server.members[place].context = late
    cards = [*first.cohort.cards]
    cards[first.places.index(place)] = read_card(card, False)
    second = SeatedCohort(first.cohort.session, tuple(cards))
    sections = {"cards": second.seating(first.places.index(place)).to_bytes()}
    reply = server.tell(place, SHARES, **sections)
    assert str(reply.content.config_records["answer"]["code"]) == Code.MALFORMED


def test_a_masked_round_is_masked_under_no_other_plan_of_the_run() -> None:
    server = ten()
    first = Table(server, HONEST[:4])
    assert first.seat()
    assert first.train()
    for place in range(10):
        server.restart(place)
    server.plan = make_secure_plan(10, privacy={"clip_norm": 0.5}, aggregation={"protocol": "secagg"})
    table = Table(server, HONEST[:4])
    assert table.read() is None


def test_masking_is_noted_for_a_round_whatever_its_plan() -> None:
    """The app lets a run have one plan; what a device notes of its masks holds without that too."""
    server = make_lab(3)
    server.until("masked")
    member, other = server.members[0], make_secure_plan(3, privacy={"clip_norm": 0.5})
    for number, masked in ((1, True), (2, False)):
        session = make_session(other, server.session.run, number)
        secure = SecureRound(session, other, member.identity, Roster(), member.journal, RecordDict())
        with pytest.raises(RepeatedStep) if masked else nullcontext():
            secure.keys()


def test_strangers_may_sum_side_by_side_with_enough_honest_ones() -> None:
    """Fourteen devices under a plan of ten, three of them the server's: two sums of seven, four honest in each."""
    server = make_lab(
        14,
        data={"shape": [1, 2, 2], "classes": 3, "clients": 14},
        cohort={"rounds": 4, "size": 10, "minimum": 2},
        aggregation={"protocol": "secagg", "mode": "malicious-server"},
    )
    colluding, honest = (0, 1, 2), tuple(range(3, 14))
    one, other = Table(server, honest[:4], colluding), Table(server, honest[4:8], colluding)
    for table in (one, other):
        found = table.read()
        assert found is not None
        assert np.array_equal(found, sum_of(server, table.honest))
    assert Table(server, honest[8:], colluding).read() is None
