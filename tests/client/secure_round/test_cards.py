"""A server that gives a device other keys than the others' own: swapped, foreign, unsigned, old, or twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from devices import said_code
from secure_devices import make_lab

from bract.privacy.messages import KEYS, SHARES
from bract.privacy.secagg import session
from bract.privacy.secagg.identity import Identity, Roster, certify, new_identity
from bract.privacy.secagg.keys import Card, make_card, new_secrets, read_card
from bract.privacy.secagg.seating import SeatedCohort, Seating
from bract.privacy.server_view import Code

Call = Callable[..., Any]
VICTIM, OTHER = 0, 1


def card_of(server: Any, place: int) -> Card:
    return server.cohort.cards[place]


def told(server: Any, cards: Sequence[Card]) -> bytes:
    """What the victim is told if these are the cards of the cohort."""
    order = tuple(sorted(cards, key=lambda card: card.identity))
    mine = server.members[VICTIM].identity.public
    return SeatedCohort(server.session, order).seating([card.identity for card in order].index(mine)).to_bytes()


def instead(server: Any, card: Card, place: int = OTHER) -> bytes:
    """What the victim is told if this card stands in for another device's."""
    return told(server, [card if p == place else known for p, known in enumerate(server.cohort.cards)])


def server_card(server: Any, identity: Identity, **session: Any) -> Card:
    """A card whose keys the server knows."""
    return make_card(new_secrets(), identity, replace(server.session, **session).digest, server.session.hybrid)


def swapped_mask_key(server: Any) -> bytes:
    mine = server_card(server, new_identity())
    return instead(server, replace(card_of(server, OTHER), mask=mine.mask))


def swapped_channel_key(server: Any) -> bytes:
    mine = server_card(server, new_identity())
    return instead(server, replace(card_of(server, OTHER), channel=mine.channel))


def exchanged_keys(server: Any) -> bytes:
    card = card_of(server, OTHER)
    return instead(server, replace(card, mask=card.channel, channel=card.mask))


def foreign_card(server: Any) -> bytes:
    return instead(server, server_card(server, new_identity()))


def foreign_card_under_the_others_name(server: Any) -> bytes:
    mine = server_card(server, new_identity())
    return instead(server, replace(mine, identity=card_of(server, OTHER).identity))


def only_foreign_cards(server: Any) -> bytes:
    foreign = [server_card(server, new_identity()) for _ in server.everyone[1:]]
    return told(server, [card_of(server, VICTIM), *foreign])


def unsigned_card(server: Any) -> bytes:
    return instead(server, replace(card_of(server, OTHER), signature=bytes(64)))


def signature_of_another_device(server: Any) -> bytes:
    return instead(server, replace(card_of(server, OTHER), signature=card_of(server, 2).signature))


def card_of_another_round(server: Any) -> bytes:
    return instead(server, server_card(server, server.members[OTHER].identity, round=2))


def card_of_another_run(server: Any) -> bytes:
    return instead(server, server_card(server, server.members[OTHER].identity, run=2))


def card_of_another_plan(server: Any) -> bytes:
    return instead(server, server_card(server, server.members[OTHER].identity, plan=bytes(32)))


def card_of_another_encoding(server: Any) -> bytes:
    """That of a device whose version turns vectors in another way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "ENCODING", b"vectors 1")
        card = server_card(server, server.members[OTHER].identity)
    return instead(server, card)


SUBSTITUTIONS = [
    swapped_mask_key,
    swapped_channel_key,
    exchanged_keys,
    foreign_card,
    foreign_card_under_the_others_name,
    only_foreign_cards,
    unsigned_card,
    signature_of_another_device,
    card_of_another_round,
    card_of_another_run,
    card_of_another_plan,
    card_of_another_encoding,
]


class TestAnotherKeyThanTheDevicesOwn:
    @pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
    @pytest.mark.parametrize("attack", SUBSTITUTIONS, ids=lambda attack: attack.__name__)
    def test_gets_no_share_of_a_secret(self, attack: Call, exchange: str) -> None:
        server = make_lab(3, aggregation={"key_exchange": exchange})
        server.keys()
        assert said_code(server.tell(VICTIM, SHARES, cards=attack(server))) is Code.ROSTER

    @pytest.mark.parametrize("attack", SUBSTITUTIONS, ids=lambda attack: attack.__name__)
    def test_costs_the_device_nothing_once_the_true_keys_come(self, attack: Call) -> None:
        server = make_lab(3)
        server.keys()
        server.tell(VICTIM, SHARES, cards=attack(server))
        server.shares()
        assert np.array_equal(server.opened(server.train(), server.unmask(server.everyone)), server.true(range(3)))


class TestAnAuthority:
    @pytest.fixture
    def certified(self) -> tuple[Any, Identity]:
        authority = new_identity()
        members = [new_identity() for _ in range(3)]
        members = [Identity(one.key, certify(authority, one.public)) for one in members]
        return make_lab(3, identities=members, roster=Roster(authority=authority.public)), authority

    def test_admits_whom_it_certified(self, certified: tuple[Any, Identity]) -> None:
        server, _ = certified
        server.until("shares")
        assert np.array_equal(server.opened(server.train(), server.unmask(server.everyone)), server.true(range(3)))

    def test_does_not_admit_whom_another_certified(self, certified: tuple[Any, Identity]) -> None:
        server, _ = certified
        server.keys()
        stranger, false = new_identity(), new_identity()
        card = server_card(server, Identity(stranger.key, certify(false, stranger.public)))
        assert said_code(server.tell(VICTIM, SHARES, cards=instead(server, card))) is Code.ROSTER

    def test_does_not_admit_one_who_shows_anothers_certificate(self, certified: tuple[Any, Identity]) -> None:
        server, _ = certified
        server.keys()
        card = server_card(server, Identity(new_identity().key, card_of(server, OTHER).certificate))
        assert said_code(server.tell(VICTIM, SHARES, cards=instead(server, card))) is Code.ROSTER

    def test_does_not_take_part_itself(self, certified: tuple[Any, Identity]) -> None:
        server, authority = certified
        server.keys()
        assert (
            said_code(server.tell(VICTIM, SHARES, cards=instead(server, server_card(server, authority))))
            is Code.ROSTER
        )


def seating(server: Any, cards: Sequence[Card], **changes: Any) -> bytes:
    """The seating of these cards, in this order, with parts of it changed."""
    parts = {"devices": len(cards), "position": VICTIM} | changes
    digest = changes.get("digest", server.session.cards_digest([card.to_bytes() for card in cards]))
    head = parts["devices"].to_bytes(4) + parts["position"].to_bytes(4) + digest
    return head + b"".join(card.to_bytes() for card in cards)


def old_card(server: Any, place: int) -> tuple[Card, Card]:
    """Two genuine cards of one device for this round, the newer one last."""
    old = card_of(server, place)
    new = read_card(server.section(server.tell(place, KEYS), "card"), server.session.hybrid)
    assert old != new
    return old, new


class TestADeviceTwice:
    """A list of cards that names a device twice would let one device's shares count as two."""

    @pytest.mark.parametrize("order", [(0, 1, 1), (0, 0, 1), (0, 1, 1, 2), (0, 1, 2, 2), (0, 1, 2, 0), (0, 1, 2, 1)])
    def test_by_one_card_is_refused(self, order: tuple[int, ...]) -> None:
        server = make_lab(4)
        server.keys()
        cards = [card_of(server, p) for p in order]
        assert said_code(server.tell(VICTIM, SHARES, cards=seating(server, cards))) is Code.MALFORMED

    @pytest.mark.parametrize("newer_first", [False, True])
    def test_by_two_genuine_cards_is_refused(self, newer_first: bool) -> None:
        server = make_lab(4)
        server.keys()
        pair = old_card(server, OTHER)
        cards = [card_of(server, 0), *(reversed(pair) if newer_first else pair), card_of(server, 2)]
        assert said_code(server.tell(VICTIM, SHARES, cards=seating(server, cards))) is Code.MALFORMED


class TestTheDevicesOwnCard:
    def test_cannot_be_one_whose_keys_it_forgot(self) -> None:
        server = make_lab(3)
        server.keys()
        old, _ = old_card(server, VICTIM)
        assert said_code(server.tell(VICTIM, SHARES, cards=instead(server, old, VICTIM))) is Code.MALFORMED

    def test_cannot_be_another_devices(self) -> None:
        server = make_lab(3)
        server.keys()
        cards = list(server.cohort.cards)
        for place in (1, 2):
            wrong = seating(server, cards, position=place)
            assert said_code(server.tell(VICTIM, SHARES, cards=wrong)) is Code.MALFORMED

    def test_cannot_be_missing(self) -> None:
        server = make_lab(4)
        server.keys()
        assert (
            said_code(server.tell(VICTIM, SHARES, cards=seating(server, server.cohort.cards[1:]))) is Code.MALFORMED
        )


class TestASeating:
    @pytest.mark.parametrize(
        "changes",
        [
            {"position": 3},
            {"position": 2**32 - 1},
            {"devices": 2},
            {"devices": 4},
            {"devices": 0},
            {"devices": 300},
            {"devices": 1 << 20},
            {"devices": 2**32 - 1},
            {"digest": bytes(32)},
        ],
    )
    def test_that_contradicts_its_cards_is_refused(self, changes: dict[str, Any]) -> None:
        server = make_lab(3)
        server.keys()
        wrong = seating(server, server.cohort.cards, **changes)
        assert said_code(server.tell(VICTIM, SHARES, cards=wrong)) is Code.MALFORMED

    def test_out_of_order_is_refused(self) -> None:
        server = make_lab(3)
        server.keys()
        cards = [card_of(server, p) for p in (0, 2, 1)]
        assert said_code(server.tell(VICTIM, SHARES, cards=seating(server, cards))) is Code.MALFORMED

    @pytest.mark.parametrize("cut", [0, 1, 39, 40, -1])
    def test_cut_short_is_refused(self, cut: int) -> None:
        server = make_lab(3)
        server.keys()
        assert said_code(server.tell(VICTIM, SHARES, cards=server.seating(VICTIM)[:cut])) is Code.MALFORMED

    def test_with_cards_of_the_other_key_exchange_is_refused(self) -> None:
        server = make_lab(3)
        server.keys()
        cards = [
            make_card(new_secrets(), member.identity, server.session.digest, hybrid=True) for member in server.members
        ]
        assert said_code(server.tell(VICTIM, SHARES, cards=seating(server, cards))) is Code.MALFORMED

    def test_of_the_server_reads_as_it_was_written(self) -> None:
        server = make_lab(3)
        server.keys()
        view: Seating = server.cohort.seating(VICTIM)
        assert seating(server, list(view.cards.values())) == server.seating(VICTIM)
