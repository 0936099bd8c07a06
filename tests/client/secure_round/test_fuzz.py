"""Every message of every stage with its bytes spoilt: a closed answer comes back, and nothing in the clear."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from secure_devices import make_lab

from bract.privacy.messages import CONSENT, KEYS, OFFER, PARAMETERS, SECAGG, SHARES, TRAIN, UNMASK
from bract.privacy.server_view import ANSWER, UPDATE, Code

EVERY, PLACE = range(4), 1
KINDS = [KEYS, SHARES, TRAIN, CONSENT, UNMASK]
MAY_SAY = {
    KEYS: {"card"},
    SHARES: {"sealed"},
    TRAIN: {"card", "signature"},
    CONSENT: {"signature"},
    UNMASK: {"opened", "sealed"},
}


class Stage:
    """A device at one stage of a round, to which it can be taken back, and what an honest server says next."""

    def __init__(self, server: Any, kind: str, sections: dict[str, bytes]) -> None:
        self.server, self.kind, self.sections = server, kind, sections
        self.pages = deepcopy(server.members[PLACE].journal.pages)
        self.kept = recorddict_to_proto(server.members[PLACE].context.state)
        self.content = recorddict_to_proto(server.content(kind, sections))

    def rewind(self) -> RecordDict:
        """Take the device back; return a fresh copy of the honest message."""
        self.server.members[PLACE].context.state = recorddict_from_proto(self.kept)
        self.server.members[PLACE].journal.pages = deepcopy(self.pages)
        self.server.replies.clear()
        return recorddict_from_proto(self.content)


@pytest.fixture(params=[("semi-honest", "x25519"), ("malicious-server", "hybrid")], ids="-".join)
def stages(request: pytest.FixtureRequest) -> dict[str, Stage]:
    """The stages of round 1 of a run in steady state, by the message that comes next."""
    mode, exchange = request.param
    server = make_lab(4, aggregation={"protocol": "secagg", "mode": mode, "key_exchange": exchange})
    found = {KEYS: Stage(server, KEYS, {})}
    server.keys()
    found[SHARES] = Stage(server, SHARES, {"cards": server.seating(PLACE)})
    server.shares()
    found[TRAIN] = Stage(server, TRAIN, {"cohort": server.invitation(PLACE), "keys": b""})
    this = server.cohort
    replies = [server.tell(p, TRAIN, cohort=server.invitation(p), keys=b"") for p in EVERY]
    bits = server.bits(EVERY)
    found[CONSENT] = Stage(server, CONSENT, {"survivors": bits})
    signed = {"signatures": server.consent(EVERY)} if server.plan.malicious else server.context_signatures(EVERY)
    server.number = 2
    server.seat([server.section(reply, "card") for reply in replies])
    cards = server.seating(PLACE)
    server.number, server.cohort = 1, this
    found[UNMASK] = Stage(server, UNMASK, {"survivors": bits, "cards": cards, **signed})
    return found


others = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=9), st.lists(st.binary(max_size=4), max_size=3)
)
"""What a section may hold that is no bytes."""


@st.composite
def spoilt(draw: st.DrawFn, data: bytes, foreign: list[bytes]) -> bytes:
    """The bytes with a few faults: flipped, cut, put in, doubled, moved, or others in their place."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        to = draw(st.integers(at, min(len(data), at + 200)))
        match draw(st.sampled_from(["flip", "cut", "put", "double", "end", "random", "foreign", "zero", "swap"])):
            case "flip" if data:
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "cut":
                data = data[:at] + data[to:]
            case "put":
                data = data[:at] + draw(st.binary(min_size=1, max_size=12)) + data[at:]
            case "double":
                data = data[:to] + data[at:to] + data[to:]
            case "end":
                data = data[:at]
            case "random":
                data = draw(st.binary(max_size=200))
            case "foreign":
                data = draw(st.sampled_from(foreign))
            case "zero":
                data = data[:at] + bytes(to - at) + data[to:]
            case _:
                data = data[at:] + data[:at]
    return data


@st.composite
def spoilt_messages(draw: st.DrawFn, stage: Stage, foreign: list[bytes]) -> tuple[RecordDict, str]:
    """A message of which one part is spoilt, and the kind that it goes out as."""
    content, kind = stage.rewind(), stage.kind
    parts = ["plan", "round", "kind", "more", *[name for name in stage.sections for _ in range(4)]]
    parts += [PARAMETERS, PARAMETERS] if kind == TRAIN else []
    part = draw(st.sampled_from(parts))
    event(f"{stage.kind} {part}")
    match part:
        case "plan":
            text = str(content.config_records[OFFER]["plan"]).encode()
            content.config_records[OFFER]["plan"] = draw(spoilt(text, foreign)).decode(errors="ignore")
        case "round":
            content.config_records[OFFER]["round"] = draw(st.one_of(st.integers(0, 4), st.just(2**63 - 1)))
        case "kind":
            kind = draw(st.sampled_from(KINDS))
        case "more":
            content.config_records.setdefault(SECAGG, ConfigRecord())
            name = draw(st.sampled_from(["keys", "cards", "cohort", "survivors", "signatures", "x"]))
            content.config_records[SECAGG][name] = draw(st.one_of(st.sampled_from(foreign), others))
        case "parameters":
            [array] = content.array_records[PARAMETERS].values()
            data = draw(spoilt(array.data, foreign))
            shape = draw(st.sampled_from([tuple(array.shape), (len(data) // 4,)]))
            content[PARAMETERS] = ArrayRecord({PARAMETERS: Array("float32", shape, array.stype, data)})
        case name:
            honest = stage.sections[name]
            missing = draw(st.integers(0, 15)) == 0
            if missing:
                del content.config_records[SECAGG][name]
            else:
                content.config_records[SECAGG][name] = draw(spoilt(honest, foreign))
    return content, kind


def check(server: Any, reply: Message, kind: str) -> Code:
    """Return the code of a reply that holds what one to such a message may hold, and no word in the clear.

    A masked word is a clear one by chance with 2^-64.
    """
    assert isinstance(reply, Message)
    assert reply.has_content()
    code = Code(str(reply.content.config_records[ANSWER]["code"]))
    assert list(reply.content.config_records[ANSWER]) == ["code"]
    if code is Code.SEALED:
        assert list(reply.content) == [ANSWER, SECAGG]
        assert kind == TRAIN
        [(name, senders)] = reply.content.config_records[SECAGG].items()
        assert (name, len(bytes(senders))) == ("senders", 1)  # pyright: ignore
        return code
    if code is not Code.OK:
        assert list(reply.content) == [ANSWER]
        return code
    said = reply.content.config_records.get(SECAGG, ConfigRecord())
    assert set(said) <= MAY_SAY[kind]
    assert set(reply.content) - {SECAGG} == ({ANSWER, UPDATE} if kind == TRAIN else {ANSWER})
    if kind == TRAIN:
        [array] = reply.content.array_records[UPDATE].values()
        words, clear = np.frombuffer(array.data, dtype="<u8"), server.clear(PLACE)
        assert words.shape == clear.shape
        assert not np.any(words == clear)
    return code


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_come_the_answer_is_closed(stages: dict[str, Stage], kind: str, data: st.DataObject) -> None:
    """Nothing in it is in the clear."""
    stage = stages[kind]
    server = stage.server
    foreign = [b"", bytes(33), *(part for other in stages.values() for part in other.sections.values())]
    content, sent_as = data.draw(spoilt_messages(stage, foreign))
    code = check(server, server.send(PLACE, content, sent_as), sent_as)
    assert code is not Code.FAILED
    event(f"{kind} {code}")
    honest = check(server, server.tell(PLACE, kind, **stage.sections), kind)
    assert honest is not Code.FAILED
    if sent_as == kind and code is Code.OK and kind != KEYS:
        said = content.config_records.get(SECAGG, ConfigRecord())
        again = kind in (CONSENT, UNMASK) and all(
            said.get(name) == stage.sections.get(name) for name in ("survivors", "signatures")
        )
        assert honest is Code.OK if again else honest in (Code.LOST, Code.MALFORMED, Code.PLAN, Code.REFUSED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_honest_message_is_answered(stages: dict[str, Stage], kind: str) -> None:
    """Or the test above would spoil messages that nobody would answer anyway."""
    stage = stages[kind]
    stage.rewind()
    reply = stage.server.tell(PLACE, kind, **stage.sections)
    assert check(stage.server, reply, kind) is Code.OK
    signed = {"signature"} if kind == TRAIN and stage.server.plan.malicious else set[str]()
    assert set(reply.content.config_records[SECAGG]) == MAY_SAY[kind] - signed
