"""The secure sum with a device that answers wrong: it counts as a dropout, or the round ends in an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.client import secure_round as secagg
from bract.privacy import RoundError
from bract.privacy.messages import CONSENT, KEYS, SECAGG, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.identity import new_identity
from bract.privacy.secagg.keys import PublicKeys, commitment, make_card, new_secrets, read_card
from bract.privacy.secagg.session import make_session
from bract.privacy.secagg.shares import SecretShares
from bract.privacy.server_view import ANSWER, UPDATE

Call = Callable[..., Any]
KINDS = [KEYS, SHARES, TRAIN, CONSENT, UNMASK]
SECTION = {KEYS: "card", SHARES: "sealed", CONSENT: "signature", UNMASK: "opened"}
MALICIOUS = {"protocol": "secagg", "deadline": 0.01, "mode": "malicious-server"}
GARBAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "none": lambda data: None,
    "empty": lambda data: b"",
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"\0",
    "twice": lambda data: 2 * data,
}


@pytest.fixture(params=[0, 2, 5])
def place(request: pytest.FixtureRequest) -> int:
    """Which of six devices is the hostile one."""
    return request.param


def others(server: Any, place: int) -> list[int]:
    return [node for node in server.nodes if node != server.nodes[place]]


def expect(server: Any, found: Any, alive: list[int]) -> None:
    """The sum is exact, and of these."""
    assert found.survivors == alive
    assert np.array_equal(found.total.vector, server.true(alive))


class TestACard:
    @pytest.mark.parametrize("how", GARBAGE)
    def test_of_another_length_is_nobodys(self, federation: Call, saying: Call, place: int, how: str) -> None:
        server = federation(6)
        server.tamper[KEYS, server.nodes[place], 0] = saying("card", GARBAGE[how])
        expect(server, server.play(), others(server, place))

    @pytest.mark.parametrize("byte", [0, 40, 70, -1])
    def test_with_a_flipped_byte_is_nobodys(self, federation: Call, saying: Call, place: int, byte: int) -> None:
        def flip(card: bytes) -> bytes:
            changed = bytearray(card)
            changed[byte] ^= 1
            return bytes(changed)

        server = federation(6)
        server.tamper[KEYS, server.nodes[place], 0] = saying("card", flip)
        expect(server, server.play(), others(server, place))

    def test_of_a_device_that_the_roster_does_not_list_is_left_out(
        self, federation: Call, saying: Call, place: int
    ) -> None:
        server = federation(6)
        session = make_session(server.plan, 1, 1)
        foreign = make_card(new_secrets(), new_identity(), session.digest, hybrid=False).to_bytes()
        server.tamper[KEYS, server.nodes[place], 0] = saying("card", lambda _: foreign)
        expect(server, server.play(), others(server, place))

    def test_with_a_signed_key_of_low_order_is_left_out(self, federation: Call, saying: Call, place: int) -> None:
        server = federation(6)
        identity = server.identities[server.nodes[place]]
        session = make_session(server.plan, 1, 1)

        def low(data: bytes) -> bytes:
            card = read_card(data, hybrid=False)
            weak = replace(card, mask=PublicKeys(bytes(32)))
            return replace(weak, signature=identity.sign(weak.signed(session.digest))).to_bytes()

        server.tamper[KEYS, server.nodes[place], 0] = saying("card", low)
        expect(server, server.play(), others(server, place))

    def test_of_the_next_round_that_is_wrong_costs_that_round_alone(
        self, federation: Call, saying: Call, place: int
    ) -> None:
        server = federation(6)
        server.tamper[TRAIN, server.nodes[place], 1] = saying("card", lambda card: card[:-1])
        expect(server, server.play(1), server.nodes)
        expect(server, server.play(2), others(server, place))
        expect(server, server.play(3), server.nodes)

    def test_that_two_nodes_show_seats_one_of_them(self, federation: Call, saying: Call) -> None:
        """A node with another's identity: only one of the two is in the round."""
        server = federation(6)
        first, second = server.nodes[:2]
        server.identities[second] = server.identities[first]
        found = server.play()
        assert len(found.survivors) == 5
        assert len({first, second} & set(found.survivors)) == 1
        assert np.array_equal(found.total.vector, server.true(found.survivors))


class TestSealedBoxes:
    @pytest.mark.parametrize("how", GARBAGE)
    def test_of_another_length_leave_their_sender_out(
        self, federation: Call, saying: Call, place: int, how: str
    ) -> None:
        server = federation(6)
        server.tamper[SHARES, server.nodes[place], 0] = saying("sealed", GARBAGE[how])
        expect(server, server.play(), others(server, place))

    @pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
    def test_that_do_not_open_cost_nobody_but_their_sender(
        self, federation: Call, saying: Call, place: int, exchange: str
    ) -> None:
        """Five of six name it, one may lie. The others take part once it is gone: none of them has masked."""
        server = federation(6, aggregation={"protocol": "secagg", "deadline": 0.01, "key_exchange": exchange})
        server.tamper[SHARES, server.nodes[place], 0] = saying("sealed", lambda sealed: bytes(len(sealed)))
        with pytest.raises(RoundError, match="1 of 6 devices sent a masked update, the round needs 4"):
            server.play()
        assert server.charges == []
        expect(server, server.play(), others(server, place))

    @pytest.mark.parametrize("spoilt", [1, 2])
    def test_that_fewer_than_may_lie_name_leave_nobody_out(
        self, federation: Call, saying: Call, place: int, spoilt: int
    ) -> None:
        """Their receivers drop out of the round; with one colluder more than one must name a sender."""
        server = federation(6)
        sender = server.nodes[place]
        server.tamper[SHARES, sender, 0] = saying(
            "sealed", lambda sealed: bytes(146 * spoilt) + sealed[146 * spoilt :]
        )
        first = server.play(1)
        assert len(first.survivors) == 6 - spoilt
        assert first.codes["sealed"] == spoilt
        expect(server, first, first.survivors)
        del server.tamper[SHARES, sender, 0]
        found = server.play(2)
        assert sender in found.survivors or spoilt == 2

    def test_are_named_by_colluders_in_vain_in_however_many_rounds(
        self, federation: Call, saying: Call, place: int
    ) -> None:
        server = federation(6)
        liar, honest = server.nodes[(place + 1) % 6], server.nodes[place]

        def accuse(reply: Message) -> Message:
            reply.content = RecordDict(
                {ANSWER: ConfigRecord({"code": "sealed"}), SECAGG: ConfigRecord({"senders": b"\x3f"})}
            )
            return reply

        server.tamper[TRAIN, liar, 0] = accuse
        for number in (1, 2, 3):
            assert honest in server.play(number).survivors

    def test_of_shares_of_no_secret_lose_one_round_at_most(
        self, federation: Call, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        """Every share is that of its hash, so nobody can see it before; then the sender alone can have done it."""
        server = federation(6)
        dealer, dealt = server.identities[server.nodes[place]], secagg.split_secrets

        def deal(own: Any, threshold: int, places: Any) -> list[SecretShares]:
            held = dealt(own, threshold, places)
            if commitment(own.own) == dealers[0]:
                held[0] = SecretShares(bytes(33), held[0].mask)
            return held

        dealers: list[bytes] = []
        show = secagg.make_card

        def noting(own: Any, identity: Any, *rest: Any) -> Any:
            card = show(own, identity, *rest)
            if identity.public == dealer.public:
                dealers[:] = [card.commitment]
            return card

        monkeypatch.setattr(secagg, "make_card", noting)
        monkeypatch.setattr(secagg, "split_secrets", deal)
        with pytest.raises(RoundError, match="do not unmask the sum"):
            server.play(1)
        expect(server, server.play(2), others(server, place))

    def test_of_the_next_round_that_are_wrong_cost_that_round_alone(
        self, federation: Call, saying: Call, place: int
    ) -> None:
        server = federation(6)
        server.tamper[UNMASK, server.nodes[place], 1] = saying("sealed", lambda sealed: sealed[:-1])
        expect(server, server.play(1), server.nodes)
        expect(server, server.play(2), others(server, place))


class TestAMaskedVector:
    @pytest.mark.parametrize("fault", ["dtype", "shape", "stype", "data", "missing", "two"])
    def test_in_another_form_is_a_dropout(self, federation: Call, place: int, fault: str) -> None:
        def spoil(reply: Message) -> Message:
            [array] = reply.content.array_records[UPDATE].values()
            parts = {"dtype": array.dtype, "shape": tuple(array.shape), "stype": array.stype, "data": array.data}
            parts |= {
                "dtype": {"dtype": "int64"},
                "shape": {"shape": (array.shape[0] - 1,)},
                "stype": {"stype": "numpy.ndarray"},
                "data": {"data": array.data[:-8]},
            }.get(fault, {})
            names = {"missing": [], "two": [UPDATE, "other"]}.get(fault, [UPDATE])
            reply.content[UPDATE] = ArrayRecord(dict.fromkeys(names, Array(**parts)))
            return reply

        server = federation(6)
        server.tamper[TRAIN, server.nodes[place], 0] = spoil
        found = server.play()
        expect(server, found, others(server, place))
        assert found.codes == {"ok": 5, "malformed": 1}


class TestASignature:
    @pytest.mark.parametrize("how", [*GARBAGE, "zeros"])
    def test_that_is_wrong_is_not_counted(self, federation: Call, saying: Call, place: int, how: str) -> None:
        server = federation(6, aggregation=MALICIOUS)
        change = GARBAGE.get(how, lambda data: bytes(len(data)))
        server.tamper[CONSENT, server.nodes[place], 0] = saying("signature", change)
        expect(server, server.play(), server.nodes)
        assert server.trips[-1] == {UNMASK: 5, SHARES: 1}

    def test_of_another_device_is_not_counted(self, federation: Call, saying: Call) -> None:
        server = federation(6, aggregation=MALICIOUS)
        known: list[bytes] = []
        server.tamper[CONSENT, server.nodes[0], 0] = saying("signature", lambda data: known.append(data) or data)
        for node in server.nodes[1:]:
            server.tamper[CONSENT, node, 0] = saying("signature", lambda _: known[0] if known else bytes(64))
        with pytest.raises(RoundError, match=r"of 6 devices sent their signature, the round needs 4"):
            server.play()
        assert server.charges == []


class TestOpenedShares:
    @pytest.mark.parametrize("how", GARBAGE)
    def test_of_another_length_are_not_counted(self, federation: Call, saying: Call, place: int, how: str) -> None:
        server = federation(6)
        server.tamper[UNMASK, server.nodes[place], 0] = saying("opened", GARBAGE[how])
        expect(server, server.play(), server.nodes)

    @pytest.mark.parametrize("share", [b"\xff" * 33, b"\1" + b"\xff" * 32])
    def test_that_are_no_field_elements_are_not_counted(
        self, federation: Call, saying: Call, place: int, share: bytes
    ) -> None:
        server = federation(6)
        server.tamper[UNMASK, server.nodes[place], 0] = saying("opened", lambda data: 6 * share)
        expect(server, server.play(), server.nodes)

    def test_of_a_dropouts_keys_that_are_wrong_open_nothing(self, federation: Call, saying: Call) -> None:
        """The round ends unopened."""
        server = federation(6)
        gone = server.nodes[3]
        server.silence(TRAIN, [gone])
        for node in others(server, 3):
            server.tamper[UNMASK, node, 0] = saying("opened", lambda data: bytes(len(data)))
        with pytest.raises(RoundError, match="do not unmask the sum"):
            server.play()

    def test_that_are_wrong_are_passed_over(self, federation: Call, saying: Call, place: int) -> None:
        server = federation(6)
        server.tamper[UNMASK, server.nodes[place], 0] = saying("opened", lambda data: bytes(len(data)))
        expect(server, server.play(), server.nodes)

    def test_of_own_masks_that_are_wrong_end_the_round_unopened(
        self, federation: Call, saying: Call, place: int
    ) -> None:
        """If none can be spared."""
        server = federation(6)
        server.silence(UNMASK, [server.nodes[(place + step) % 6] for step in (1, 2)])
        server.tamper[UNMASK, server.nodes[place], 0] = saying("opened", lambda data: bytes(len(data)))
        with pytest.raises(RoundError, match="do not unmask the sum"):
            server.play()


class TestAnAnswer:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("code", ["failed", "lost", "refused", "roster", "nonsense"])
    def test_that_is_a_code_counts_as_none(
        self, federation: Call, code_only: Call, place: int, kind: str, code: str
    ) -> None:
        server = federation(6, aggregation=MALICIOUS)
        server.tamper[kind, server.nodes[place], 0] = code_only(code)
        in_sum = kind in (CONSENT, UNMASK)
        expect(server, server.play(), server.nodes if in_sum else others(server, place))

    @pytest.mark.parametrize("kind", KINDS)
    def test_that_is_an_error_of_flower_counts_as_none(self, federation: Call, place: int, kind: str) -> None:
        def fail(reply: Message) -> Message:
            failed = Message(Error(code=0, reason="no"), reply_to=reply)
            failed.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
            return failed

        server = federation(6, aggregation=MALICIOUS)
        server.tamper[kind, server.nodes[place], 0] = fail
        expect(server, server.play(), server.nodes if kind in (CONSENT, UNMASK) else others(server, place))

    @pytest.mark.parametrize("kind", [KEYS, SHARES, CONSENT, UNMASK])
    def test_with_sections_that_were_not_asked_for_gains_nothing(
        self, federation: Call, place: int, kind: str
    ) -> None:
        def add(reply: Message) -> Message:
            reply.content[SECAGG]["more"] = b"\1"  # pyright: ignore
            return reply

        server = federation(6, aggregation=MALICIOUS)
        server.tamper[kind, server.nodes[place], 0] = add
        expect(server, server.play(), server.nodes if kind in (CONSENT, UNMASK) else others(server, place))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**64 - 1), mode=st.sampled_from([MALICIOUS, {"deadline": 0.01}]), place=st.integers(0, 3))
def test_whatever_a_device_answers_rounds_go_on_or_end_by_name(
    federation: Call, seed: int, mode: dict[str, Any], place: int
) -> None:
    """The sum is exact but for what the device itself has in it."""
    choices = Random(seed)  # keys are new in every run: what was drawn on the way could not be drawn again
    server = federation(4, aggregation=mode)
    hostile = server.nodes[place]

    for kind in KINDS:
        server.tamper[kind, hostile, 0] = lambda reply: spoilt_reply(choices, reply)
    for number in (1, 2):
        try:
            found = server.play(number)
        except RoundError:
            assert sum(UNMASK in trip for trip in server.trips) == len(server.charges)
            return
        assert server.charges[-1] == found.survivors
        if hostile not in found.survivors:
            assert np.array_equal(found.total.vector, server.true(found.survivors))


def spoilt_reply(choices: Random, reply: Message) -> Message | None:
    """The reply with some of its bytes spoilt, or none."""
    for record in (SECAGG, ANSWER):
        fields = dict(reply.content.config_records.get(record, ConfigRecord()))
        for name, value in fields.items():
            if isinstance(value, bytes) and choices.random() < 0.5:
                fields[name] = spoilt(choices, value)
        if fields:
            reply.content[record] = ConfigRecord(fields)  # pyright: ignore
    if UPDATE in reply.content and choices.random() < 0.5:
        [array] = reply.content.array_records[UPDATE].values()
        changed = spoilt(choices, array.data)
        reply.content[UPDATE] = ArrayRecord({UPDATE: Array("uint64", tuple(array.shape), array.stype, changed)})
    return reply if choices.random() < 0.9 else None


def spoilt(choices: Random, data: bytes) -> bytes:
    """The bytes flipped somewhere, cut, lengthened or replaced."""
    at = choices.randrange(max(len(data), 1))
    flipped = data[:at] + bytes(b ^ 1 << choices.randrange(8) for b in data[at : at + 1]) + data[at + 1 :]
    return choices.choice([data, flipped, flipped, data[:at], data + data[:at], bytes(len(data))])


def test_a_node_is_seated_by_the_card_it_is_counted_by_alone(federation: Callable[..., Any]) -> None:
    """Two devices show their names the other way round: neither is in a sum that the other would be charged for."""
    server = federation(6)
    swapped = dict(zip(server.nodes, server.nodes[1::-1], strict=False)) | {n: n for n in server.nodes[2:]}
    server.collector._counted = lambda node: server.identities[swapped[node]].public.hex()
    assert set(server.play().survivors) == set(server.nodes[2:])
    assert server.charges == [server.nodes[2:]]
