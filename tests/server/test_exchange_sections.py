"""The exchange of secure aggregation's messages: what they carry, and what is read of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from bract.privacy import Plan, mechanism_of
from bract.privacy.messages import CONSENT, KEYS, OFFER, PARAMETERS, SECAGG, SHARES, TRAIN, UNMASK, Offer, read_offer
from bract.privacy.plan.plan import Privacy
from bract.privacy.server_view import ANSWER, ANSWER_SECTIONS, Code
from bract.server.exchange import Answer, Request, exchange

PLAN = Plan(privacy=Privacy(noise_multiplier=20.0))
MECHANISM = mechanism_of(PLAN)
COUNT = 5
Update = Callable[..., RecordDict]
OK = ConfigRecord({"code": "ok"})


def words(node: int) -> np.ndarray:
    return np.arange(MECHANISM.grid.ring.words(COUNT), dtype=np.uint64) + np.uint64(node)


def request(node: int, kind: str = TRAIN, **sections: bytes) -> Request:
    return Request(node, kind, 3, sections)


def ask_of(grid: Any, requests: list[Request]) -> list[Answer]:
    return list(exchange(grid, MECHANISM, requests, np.zeros(COUNT, dtype=np.float32), 10.0))


@pytest.mark.parametrize("kind", [KEYS, SHARES, CONSENT, UNMASK])
def test_other_requests_carry_sections_and_no_parameters(grid: Any, kind: str) -> None:
    """A request that is not to train carries the offer too."""
    ask_of(grid, [request(5, kind, cards=b"abc", survivors=b"")])
    [message] = grid.pushed
    assert set(message.content) == {OFFER, SECAGG}
    assert read_offer(message.content.config_records[OFFER]) == Offer(3, PLAN.offered())
    assert dict(message.content.config_records[SECAGG]) == {"cards": b"abc", "survivors": b""}
    metadata = message.metadata
    assert (metadata.message_type, metadata.group_id, metadata.ttl) == (kind, "3", 10.0)


def test_requests_of_several_kinds_go_out_together(grid: Any) -> None:
    """Each says its own kind."""
    ask_of(grid, [request(5, TRAIN, cohort=b"a"), Request(6, KEYS, 4), request(7, TRAIN, cohort=b"b")])
    kinds = [(m.metadata.message_type, m.metadata.group_id, set(m.content)) for m in grid.pushed]
    trained = (TRAIN, "3", {OFFER, PARAMETERS, SECAGG})
    assert kinds == [trained, (KEYS, "4", {OFFER}), trained]
    assert [dict(grid.pushed[n].content.config_records[SECAGG]) for n in (0, 2)] == [
        {"cohort": b"a"},
        {"cohort": b"b"},
    ]
    assert read_offer(grid.pushed[1].content.config_records[OFFER]).round == 4
    assert grid.pushed[0].content[PARAMETERS] is grid.pushed[2].content[PARAMETERS]


@pytest.mark.parametrize("name", ANSWER_SECTIONS)
def test_sections_of_an_answer_are_read(grid: Any, update: Update, name: str) -> None:
    with_update = update(words(5))
    with_update[SECAGG] = ConfigRecord({name: b"xyz"})
    alone = RecordDict({ANSWER: OK, SECAGG: ConfigRecord({name: b""})})
    grid.pulls = [[grid.reply(5, with_update), grid.reply(7, alone)]]
    trained, prepared = ask_of(grid, [request(5), request(7, SHARES)])
    assert trained.sections == {name: b"xyz"}
    assert np.array_equal(trained.update, words(5))
    assert prepared == Answer(request(7, SHARES), Code.OK, None, {name: b""})


def test_an_update_in_answer_to_another_request_is_not_read(grid: Any, update: Update) -> None:
    """Only a request to train is answered by one."""
    grid.pulls = [[grid.reply(5, update(words(5)))]]
    assert ask_of(grid, [request(5, UNMASK)]) == [Answer(request(5, UNMASK), Code.OK)]


def test_sections_beside_a_refusal_are_not_read(grid: Any) -> None:
    refusal = ConfigRecord({"code": "refused"})
    grid.pulls = [[grid.reply(5, RecordDict({ANSWER: refusal, SECAGG: ConfigRecord({"card": b"x"})}))]]
    assert ask_of(grid, [request(5, KEYS)]) == [Answer(request(5, KEYS), Code.REFUSED)]


@pytest.mark.parametrize(
    "section",
    [
        ConfigRecord({"cards": b"x"}),
        ConfigRecord({"card": "x"}),
        ConfigRecord({"card": b"x", "more": b""}),
        ConfigRecord({"card": [b"x"]}),
        ConfigRecord({"card": 1}),
    ],
)
@pytest.mark.parametrize("kind", [TRAIN, KEYS])
def test_an_answer_with_other_sections_counts_as_malformed(
    grid: Any, update: Update, section: ConfigRecord, kind: str
) -> None:
    content = update(words(5))
    content[SECAGG] = section
    grid.pulls = [[grid.reply(5, content)]]
    assert ask_of(grid, [request(5, kind)]) == [Answer(request(5, kind), Code.MALFORMED)]


def test_neither_a_request_nor_an_answer_prints_its_sections(grid: Any) -> None:
    asked = request(5, UNMASK, survivors=b"secret")
    grid.pulls = [[grid.reply(5, RecordDict({ANSWER: OK, SECAGG: ConfigRecord({"opened": b"secret"})}))]]
    [answer] = ask_of(grid, [asked])
    assert answer.sections == {"opened": b"secret"}
    assert "secret" not in repr(asked) + repr(answer)


def test_no_request_sends_nothing(grid: Any) -> None:
    assert ask_of(grid, []) == []
    assert grid.pushed == grid.waited_for == []
