"""A server that wants a sum over too few, over others than the round's members, or without the device itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import said_code
from secure_devices import make_lab

from bract.privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.shamir import SHARE_BYTES, combine
from bract.privacy.secagg.unmask import TooFewShares
from bract.privacy.server_view import Code

MODES = ["semi-honest", "malicious-server"]
LEAST = {
    "the plan's minimum": {"cohort": {"minimum": 5}, "aggregation": {"colluders": 0.0}},
    "the threshold": {"aggregation": {"colluders": 0.49}},
    "the shared noise": {
        "model": {"parameters": 51},
        "privacy": {"noise": "distributed"},
        "aggregation": {"colluders": 0.0, "dropouts": 0.2},
    },
}
"""Why at least 5 of 6 devices must be in a sum."""


@pytest.fixture(params=LEAST)
def five_of_six(request: pytest.FixtureRequest) -> Any:
    tables = dict(LEAST[request.param])
    tables["aggregation"] = {"protocol": "secagg", **tables.get("aggregation", {})}
    return make_lab(6, **tables)


class TestFewerThanTheLeast:
    def test_survivors_open_nothing(self, five_of_six: Any) -> None:
        five_of_six.until("masked")
        for alive in ([0, 1, 2, 3], [0, 1], [0]):
            assert said_code(five_of_six.tell(0, UNMASK, survivors=five_of_six.bits(alive))) is Code.REFUSED
        assert len(five_of_six.unmask(range(5))) == 5

    def test_survivors_are_signed_by_nobody(self, five_of_six: Any) -> None:
        five_of_six.until("masked")
        for alive in ([0, 1, 2, 3], [0, 1], [0]):
            assert said_code(five_of_six.tell(0, CONSENT, survivors=five_of_six.bits(alive))) is Code.REFUSED

    @pytest.mark.parametrize("members", [[0, 1, 2, 3], [0, 1], [0]])
    def test_members_get_no_update(self, five_of_six: Any, members: list[int]) -> None:
        five_of_six.keys()
        five_of_six.shares()
        for absent in set(range(6)) - set(members):
            del five_of_six.cohort.boxes[absent]
        assert said_code(five_of_six.tell(0, TRAIN, cohort=five_of_six.invitation(0))) is Code.REFUSED

    def test_members_but_enough_get_one(self, five_of_six: Any) -> None:
        five_of_six.keys()
        five_of_six.shares(range(5))
        sent = five_of_six.train(range(5))
        assert np.array_equal(five_of_six.opened(sent, five_of_six.unmask(range(5))), five_of_six.true(range(5)))

    @pytest.mark.parametrize("least", ["the plan's minimum", "the shared noise"])
    def test_cards_get_no_shares(self, least: str) -> None:
        tables = dict(LEAST[least])
        tables["aggregation"] = {"protocol": "secagg", **tables["aggregation"]}
        server = make_lab(6, **tables)
        server.keys()
        enough = SeatedCohort(server.session, server.cohort.cards[:5])
        server.section(server.tell(0, SHARES, cards=enough.seating(0).to_bytes()), "sealed")
        server.keys()
        few = SeatedCohort(server.session, server.cohort.cards[:4])
        assert said_code(server.tell(0, SHARES, cards=few.seating(0).to_bytes())) is Code.REFUSED
        assert said_code(server.tell(0, KEYS)) is Code.REFUSED


def test_a_device_alone_is_no_cohort() -> None:
    server = make_lab(3)
    server.keys()
    alone = server.session.cards_digest([server.cohort.cards[0].to_bytes()])
    head = (1).to_bytes(4) + (0).to_bytes(4) + alone
    assert said_code(server.tell(0, SHARES, cards=head + server.cohort.cards[0].to_bytes())) is Code.MALFORMED


def test_of_two_devices_none_may_be_missing() -> None:
    server = make_lab(2, cohort={"minimum": 1})
    server.until("masked")
    for place in (0, 1):
        assert said_code(server.tell(place, UNMASK, survivors=server.bits([place]))) is Code.REFUSED


def test_fewer_shares_than_the_threshold_open_nothing() -> None:
    server = make_lab(6)
    server.until("shares")
    sent = server.train()
    opened = server.unmask(range(6))
    threshold = server.cohort.graph.threshold
    few = {p: opened[p] for p in range(threshold - 1)}
    before = {p: words.copy() for p, words in sent.items()}
    with pytest.raises(TooFewShares):
        server.opened(sent, few)
    assert all(np.array_equal(before[p], sent[p]) for p in sent)
    assert np.array_equal(server.opened(sent, {p: opened[p] for p in range(threshold)}), server.true(range(6)))


def test_a_secret_is_split_so_that_it_takes_the_threshold(overheard: list[Any]) -> None:
    """What the server counts it could leave out: it is the degree of the shares that holds."""
    server = make_lab(6)
    server.until("masked")
    opened, threshold = server.unmask(range(6)), server.cohort.graph.threshold
    for member in range(6):
        start = member * SHARE_BYTES
        shares = {p + 1: opened[p][start : start + SHARE_BYTES] for p in range(threshold)}
        assert combine(shares) == overheard[member].own
        del shares[1]
        assert combine(shares) != overheard[member].own


class TestTheDeviceItself:
    """Its own vector must be in what it helps to open, or it would help to open the others' alone."""

    @pytest.mark.parametrize("kind", [CONSENT, UNMASK])
    @pytest.mark.parametrize("mode", MODES)
    def test_must_be_among_the_survivors(self, kind: str, mode: str) -> None:
        server = make_lab(6, aggregation={"protocol": "secagg", "mode": mode})
        server.until("masked" if (kind, mode) != (UNMASK, "malicious-server") else "agreed")
        assert said_code(server.tell(0, kind, survivors=server.bits(range(1, 6)))) is Code.MALFORMED

    def test_must_be_among_the_members(self) -> None:
        server = make_lab(6)
        server.until("shares")
        boxes = server.invitation(0)[1:]
        assert said_code(server.tell(0, TRAIN, cohort=server.bits(range(1, 6)) + boxes)) is Code.MALFORMED


class TestAListOfSurvivors:
    """One bit a position: two lists that overlap, or a device twice in one, cannot even be written."""

    @pytest.mark.parametrize("kind", [CONSENT, UNMASK])
    @pytest.mark.parametrize(
        "bits",
        [
            b"",
            b"\x3f\x3f",
            b"\x3f\x00",
            b"\x1f\x20",
            b"\x7f",
            b"\xbf",
            b"\xff",
            bytes([0, 1, 2, 3, 4, 5]),
            bytes([0, 0, 1, 2, 3, 4]),
        ],
        ids=bytes.hex,
    )
    def test_in_any_other_form_is_refused(self, kind: str, bits: bytes) -> None:
        server = make_lab(6)
        server.until("masked")
        assert said_code(server.tell(0, kind, survivors=bits)) is Code.MALFORMED

    @pytest.mark.parametrize("second", ["survivors2", "dropouts", "dead", "active"])
    def test_has_no_second_one_beside_it(self, second: str) -> None:
        server = make_lab(6)
        server.until("masked")
        lists = {"survivors": server.bits(range(6)), second: server.bits([0, 1])}
        assert said_code(server.tell(0, UNMASK, **lists)) is Code.MALFORMED

    @pytest.mark.parametrize("kind", [CONSENT, UNMASK])
    def test_holds_members_of_the_round_only(self, kind: str) -> None:
        server = make_lab(6)
        server.keys()
        server.shares(range(5))
        server.train(range(5))
        assert said_code(server.tell(0, kind, survivors=server.bits(range(6)))) is Code.MALFORMED

    def test_opens_one_secret_of_each_member_and_never_the_other(self, overheard: list[Any]) -> None:
        server = make_lab(6)
        server.until("shares")
        alive = [0, 1, 3, 4, 5]
        server.train(alive)
        opened = server.unmask(alive)
        threshold = server.cohort.graph.threshold
        assert {len(shares) for shares in opened.values()} == {6 * SHARE_BYTES}
        for member in range(6):
            start = member * SHARE_BYTES
            shares = {p + 1: opened[p][start : start + SHARE_BYTES] for p in alive[:threshold]}
            own, mask = overheard[member].own, overheard[member].mask.secret
            assert combine(shares) == (own if member in alive else mask)


class TestTheMembersOfARound:
    @pytest.mark.parametrize("bits", [b"\x40", b"\x7f", b"\xff"], ids=bytes.hex)
    def test_hold_no_position_beyond_the_cohort(self, bits: bytes) -> None:
        server = make_lab(6)
        server.until("shares")
        assert said_code(server.tell(0, TRAIN, cohort=bits + server.invitation(0)[1:])) is Code.MALFORMED

    @pytest.mark.parametrize("change", [-1, 1, 82])
    def test_come_with_just_one_box_of_each(self, change: int) -> None:
        server = make_lab(6)
        server.until("shares")
        honest = server.invitation(0)
        wrong = honest[:change] if change < 0 else honest + bytes(change)
        assert said_code(server.tell(0, TRAIN, cohort=wrong)) is Code.MALFORMED

    def test_are_written_as_the_server_writes_them(self) -> None:
        server = make_lab(6)
        server.until("shares")
        assert server.invitation(0)[:1] == to_bits(range(6), 6) == b"\x3f"
