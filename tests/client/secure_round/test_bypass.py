"""A server that asks for what would leave without masks, or for weaker ones, in any way a message allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import make_message, make_node, said_code
from flwr.app import Message
from secure_devices import make_lab, make_secure_plan, words_of

from bract.client.disk.step_journal import MemoryJournal
from bract.client.terms import Terms
from bract.privacy import PlanError
from bract.privacy.messages import CONSENT, KEYS, SECAGG, SHARES, TRAIN, UNMASK
from bract.privacy.plan.thresholds import COMPLETE, most_colluders
from bract.privacy.secagg.graph import choose_graph
from bract.privacy.server_view import ANSWER, UPDATE, Code

LIGHT = [KEYS, SHARES, CONSENT, UNMASK]
ENTERING = [KEYS, SHARES, TRAIN]
"""Messages that a device compares with its terms; others are lost unless their run was entered with that plan."""
STAGES = ["fresh", "keys", "shares", "masked"]
NEXT = list(zip(STAGES, [KEYS, SHARES, TRAIN, UNMASK], strict=True))


def holds_clear(server: Any, reply: Message, place: int = 0) -> bool:
    """Whether an update in the reply has a word of the device's unmasked one (by chance: with 2^-58)."""
    arrays = reply.content.array_records.get(UPDATE, {})
    clear = server.clear(place)
    return any(
        bool(np.any(np.frombuffer(array.data[: clear.nbytes], dtype="<u8") == clear)) for array in arrays.values()
    )


class TestAMessageType:
    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize(
        "kind",
        [
            "evaluate",
            "evaluate.keys",
            "query",
            "query.train",
            "query.update",
            "train.clear",
            "train.keys",
            "train.unmask",
            "train.Default",
            "train.",
            "",
            "reconnect",
        ],
    )
    def test_that_is_not_of_the_protocol_reaches_no_code(self, kind: str, stage: str) -> None:
        server = make_lab(3)
        server.until(stage)
        content = server.content(TRAIN, {"cohort": b""})
        with pytest.raises(ValueError, match=r"^(No|Invalid) ") as caught:
            server.send(0, content, kind)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("kind", LIGHT)
    def test_of_the_light_ones_brings_no_update(self, kind: str, stage: str) -> None:
        server = make_lab(3)
        server.until(stage)
        for sections in ({}, {"cohort": b""}, {"cards": server.seating(0)} if stage != "fresh" else {}):
            content = server.content(TRAIN, sections)
            assert UPDATE not in server.send(0, content, kind).content

    def test_to_train_by_its_long_name_brings_masks_as_well(self) -> None:
        server = make_lab(3)
        server.until("shares")
        reply = server.send(0, server.content(TRAIN, {"cohort": server.invitation(0)}), "train.default")
        sent = {0: words_of(reply), **server.train([1, 2])}
        assert not holds_clear(server, reply)
        assert np.array_equal(server.opened(sent, server.unmask(range(3))), server.true(range(3)))

    @pytest.mark.parametrize("stage", ["fresh", "keys", "masked"])
    @pytest.mark.parametrize("sections", [{}, {"cohort": b""}, {"cohort": b"\7"}, {"keys": b""}])
    def test_to_train_without_a_seat_brings_a_code_alone(self, stage: str, sections: dict[str, bytes]) -> None:
        server = make_lab(3)
        server.until(stage)
        assert said_code(server.tell(0, TRAIN, **sections)) in (Code.MALFORMED, Code.LOST)


class TestTheProtocolOfSumsInTheClear:
    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("loose", [False, True])
    def test_is_refused_within_a_run_under_masks(self, stage: str, loose: bool) -> None:
        server = make_lab(3, terms=Terms(clear_updates=loose))
        server.until(stage if stage != "fresh" else "keys")
        server.plan = make_secure_plan(3, aggregation={"protocol": "sum"})
        for sections in ({}, {"cohort": server.invitation(0)}):
            assert said_code(server.tell(0, TRAIN, **sections)) is Code.PLAN

    @pytest.mark.parametrize("kind", [TRAIN, *LIGHT])
    def test_is_refused_by_terms_that_want_masks(self, kind: str) -> None:
        server = make_lab(3, aggregation={"protocol": "sum"})
        assert said_code(server.tell(0, kind)) is (Code.REFUSED if kind in ENTERING else Code.LOST)

    def test_cannot_be_mixed_with_this_one(self) -> None:
        server = make_lab(3, terms=Terms(clear_updates=True), aggregation={"protocol": "sum"})
        assert said_code(server.tell(0, TRAIN, cohort=b"\7")) is Code.MALFORMED
        for kind in LIGHT:
            assert said_code(server.tell(0, kind)) is Code.MALFORMED

    def test_would_bring_the_clear_words_if_the_owner_allowed_it(self) -> None:
        """Or the tests above would see no clear update if there was one."""
        server = make_lab(3, terms=Terms(clear_updates=True), aggregation={"protocol": "sum"})
        reply = server.tell(0, TRAIN)
        assert np.array_equal(words_of(reply), server.clear(0))
        assert holds_clear(server, reply)


class TestAParameterOfTheProtocol:
    @pytest.mark.parametrize("name", ["threshold", "ring", "bits", "range", "clip_norm", "mod_range", "minimum"])
    @pytest.mark.parametrize(("stage", "kind"), NEXT)
    def test_is_set_by_no_message(self, stage: str, kind: str, name: str) -> None:
        server = make_lab(3)
        server.until(stage)
        honest = {
            KEYS: lambda: {},
            SHARES: lambda: {"cards": server.seating(0)},
            TRAIN: lambda: {"cohort": server.invitation(0)},
            UNMASK: lambda: {"survivors": server.bits(range(3))},
        }[kind]()
        assert said_code(server.tell(0, kind, **honest, **{name: b"\1"})) is Code.MALFORMED

    @pytest.mark.parametrize(
        "changes",
        [
            {"privacy": {"clip_norm": 2.0}},
            {"aggregation": {"protocol": "secagg", "bits": 64}},
            {"aggregation": {"protocol": "secagg", "range": 1.0}},
            {"aggregation": {"protocol": "secagg", "colluders": 0.0}},
            {"aggregation": {"protocol": "secagg", "dropouts": 0.0}},
            {"aggregation": {"protocol": "secagg", "key_exchange": "hybrid"}},
            {"aggregation": {"protocol": "secagg", "mode": "malicious-server"}},
            {"cohort": {"minimum": 1}},
            {"cohort": {"size": 2}},
        ],
    )
    @pytest.mark.parametrize(("stage", "kind"), NEXT[1:])
    def test_is_fixed_by_the_plan_for_the_whole_run(self, stage: str, kind: str, changes: dict[str, Any]) -> None:
        server = make_lab(3)
        server.until(stage)
        honest = {"cards": server.seating(0)} if kind == SHARES else {"cohort": server.invitation(0)}
        server.plan = make_secure_plan(3, **changes)
        sections = {"survivors": server.bits(range(3))} if kind == UNMASK else honest
        assert said_code(server.tell(0, kind, **sections)) is (Code.PLAN if kind in ENTERING else Code.LOST)

    @pytest.mark.parametrize(
        ("terms", "tables"),
        [
            ({"min_colluders": 1}, {}),
            ({"min_survivors": 3}, {}),
            ({"malicious_server": True}, {}),
        ],
    )
    @pytest.mark.parametrize("kind", [KEYS, SHARES, TRAIN, CONSENT, UNMASK])
    def test_that_the_owner_wants_stronger_is_refused(
        self, terms: dict[str, Any], tables: dict[str, Any], kind: str
    ) -> None:
        server = make_lab(3, terms=Terms(**terms), **tables)
        assert said_code(server.tell(0, kind)) is (Code.REFUSED if kind in ENTERING else Code.LOST)

    @pytest.mark.parametrize(("bits", "devices"), [(1, 3), (2, 3), (8, 3), (12, 200), (12, 5000)])
    def test_such_as_a_tiny_ring_makes_no_plan(self, bits: int, devices: int) -> None:
        server = make_lab(3)
        with pytest.raises(PlanError):
            make_secure_plan(devices, aggregation={"protocol": "secagg", "bits": bits})
        content = server.content(KEYS, {})
        text = make_secure_plan(devices).offered().replace("[aggregation]", f"[aggregation]\nbits = {bits}")
        content.config_records["offer"]["plan"] = text
        assert said_code(server.send(0, content, KEYS)) is Code.PLAN

    def test_such_as_a_graph_that_takes_long_to_find_makes_no_plan(self) -> None:
        server = make_lab(3)
        server.plan = make_secure_plan(3000, aggregation={"protocol": "secagg"}, privacy={"noise_multiplier": 60.0})
        content = server.content(KEYS, {})
        text = server.plan.offered().replace("dropouts = 0.3", "dropouts = 0.49")
        content.config_records["offer"]["plan"] = text.replace(f"colluders = {1 / 3}", "colluders = 0.49")
        assert said_code(server.send(0, content, KEYS)) is Code.PLAN

    @pytest.mark.parametrize("colluding", [0.0, 0.1, 1 / 3, 0.49])
    def test_such_as_the_threshold_is_more_than_half_of_any_cohort(self, colluding: float) -> None:
        graphs = [
            choose_graph(devices, most_colluders(devices, colluding), 0.0) for devices in range(2, COMPLETE + 1)
        ]
        assert all(graph.complete and 2 * graph.threshold > graph.devices for graph in graphs)


class TestADeviceWithoutWhatTheProtocolNeeds:
    @pytest.mark.parametrize("lacking", ["identity", "roster", "journal"])
    @pytest.mark.parametrize("kind", [KEYS, TRAIN])
    def test_sends_nothing(self, lacking: str, kind: str) -> None:
        server = make_lab(3)
        parts = {"identity": server.members[0].identity, "roster": object(), "journal": MemoryJournal()} | {
            lacking: None
        }
        member = make_node(**parts)
        sections = {"cohort": b"\7"} if kind == TRAIN else {}
        reply = member.app(make_message(server.content(kind, sections), kind), member.context)
        assert said_code(reply) is Code.PLAN
        assert not member.ran


def test_the_replies_of_a_round_hold_these_records_and_no_others() -> None:
    server = make_lab(3, aggregation={"mode": "malicious-server", "protocol": "secagg"})
    server.until("shares")
    server.train()
    signatures = server.consent(range(3))
    server.unmask(range(3), signatures=signatures)
    found = [{name: sorted(record) for name, record in reply.content.items()} for reply in server.replies]
    code = {ANSWER: ["code"]}
    assert found == (
        [code | {SECAGG: ["card"]}] * 3
        + [code | {SECAGG: ["sealed"]}] * 3
        + [code | {UPDATE: [UPDATE]}] * 3
        + [code | {SECAGG: ["signature"]}] * 3
        + [code | {SECAGG: ["opened"]}] * 3
    )
    assert not any(reply.content.metric_records for reply in server.replies)


@pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
def test_the_size_of_a_reply_tells_nothing_of_the_records(exchange: str) -> None:
    """The number of records, their weight and what training came to are in the masked words or nowhere."""
    sizes: list[list[list[int]]] = []
    for records in (1, 40):
        server = make_lab(3, real=True, records=records, aggregation={"key_exchange": exchange, "protocol": "secagg"})
        server.until("shares")
        server.train()
        server.unmask(range(3))
        contents = [reply.content for reply in server.replies]
        sizes.append(
            [
                [len(data) for data in content.config_records.get(SECAGG, {}).values()]
                + [len(array.data) for record in content.array_records.values() for array in record.values()]
                for content in contents
            ]
        )
    assert sizes[0] == sizes[1]
