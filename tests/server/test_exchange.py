"""The exchange, against a grid whose clock and whose devices the test holds in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict

from bract.privacy import Plan, mechanism_of
from bract.privacy.messages import OFFER, PARAMETERS, TRAIN, Offer, read_offer, read_parameters
from bract.privacy.plan.plan import Privacy
from bract.privacy.server_view import ANSWER, UPDATE, Code
from bract.server.exchange import LATE, Answer, Request, exchange

PLAN = Plan(privacy=Privacy(noise_multiplier=20.0))
MECHANISM = mechanism_of(PLAN)
COUNT = 5
WORDS = MECHANISM.grid.ring.words(COUNT)
Update = Callable[..., RecordDict]


def words(node: int) -> np.ndarray:
    return np.arange(WORDS, dtype=np.uint64) * np.uint64(node) + np.uint64(2**63)


def request(node: int) -> Request:
    return Request(node, TRAIN, 3)


def ask(grid: Any, cohort: list[int], deadline: float = 10.0) -> list[Answer]:
    requests = [request(node) for node in cohort]
    return list(exchange(grid, MECHANISM, requests, np.zeros(COUNT, dtype=np.float32), deadline))


def test_the_words_of_the_plan_here_hold_several_coordinates() -> None:
    assert WORDS == 3 < COUNT


def test_each_node_is_offered_round_plan_and_parameters(grid: Any) -> None:
    parameters = np.linspace(-1, 1, COUNT).astype(np.float32)
    list(exchange(grid, MECHANISM, [request(5), request(7)], parameters, 10.0))
    assert [m.metadata.dst_node_id for m in grid.pushed] == [5, 7]
    for message in grid.pushed:
        assert set(message.content) == {OFFER, PARAMETERS}
        assert read_offer(message.content.config_records[OFFER]) == Offer(3, PLAN.offered())
        [array] = message.content.array_records[PARAMETERS].values()
        assert np.array_equal(read_parameters(array.dtype, array.shape, array.stype, array.data), parameters)
        metadata = message.metadata
        assert (metadata.message_type, metadata.group_id, metadata.ttl) == ("train", "3", 10.0)


def test_one_copy_of_the_parameters_is_made_for_all(grid: Any) -> None:
    ask(grid, [5, 6, 7])
    assert len({id(m.content[PARAMETERS]) for m in grid.pushed}) == 1


def test_an_answer_holds_the_nodes_update_bit_for_bit(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, update(words(5))), grid.reply(7, update(words(7)))]]
    answers = ask(grid, [5, 7])
    assert [(a.node, a.code) for a in answers] == [(5, Code.OK), (7, Code.OK)]
    assert all(a.update is not None and np.array_equal(a.update, words(a.node)) for a in answers)


def test_an_answer_does_not_print_its_update(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, update(np.full(WORDS, 987654321)))]]
    [answer] = ask(grid, [5])
    assert "987654321" not in repr(answer)


def test_answers_come_as_they_arrive(grid: Any, update: Update) -> None:
    """Before the next are asked for."""
    grid.pulls = [[grid.reply(7, update(words(7)))], [], [grid.reply(5, update(words(5)))]]
    arriving = exchange(grid, MECHANISM, [request(5), request(7)], np.zeros(COUNT, dtype=np.float32), 10.0)
    assert next(arriving).node == 7
    assert len(grid.waited_for) == 1
    assert next(arriving).node == 5
    assert grid.waited_for[1:] == [{grid.identity(5)}, {grid.identity(5)}]
    assert next(arriving, None) is None
    assert len(grid.waited_for) == 3


def test_when_all_have_answered_nothing_is_waited_for(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, update(words(5)))]]
    ask(grid, [5])
    assert grid.clock.now == 1000.0


def test_a_node_that_is_late_is_not_waited_for(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, update(words(5)))]]
    assert [(a.node, a.code) for a in ask(grid, [5, 7], deadline=3.0)] == [(5, Code.OK), (7, LATE)]
    assert 1003.0 <= grid.clock.now <= 1003.5


def test_a_reply_that_arrives_after_the_deadline_is_not_taken(grid: Any, update: Update) -> None:
    grid.pulls = [[] for _ in range(100)] + [[grid.reply(5, update(words(5)))]]
    assert ask(grid, [5], deadline=3.0) == [Answer(request(5), LATE)]


def test_a_message_that_could_not_be_sent_is_not_waited_for(grid: Any, update: Update) -> None:
    grid.lost = {7}
    grid.pulls = [[grid.reply(5, update(words(5)))]]
    assert [(a.node, a.code) for a in ask(grid, [5, 7])] == [(5, Code.OK), (7, LATE)]
    assert grid.clock.now == 1000.0


def test_an_empty_cohort_gives_no_answer(grid: Any) -> None:
    assert ask(grid, []) == []
    assert grid.clock.now == 1000.0


@pytest.mark.parametrize("code", [3, 4, 5])
def test_a_node_that_flower_lost_is_late_and_not_failed(grid: Any, code: int) -> None:
    """The message or its reply is over, or the node has gone: it may be asked again, unlike one that failed."""
    grid.pulls = [[grid.reply(5, Error(code=code))]]
    assert ask(grid, [5]) == [Answer(request(5), LATE)]


def test_no_device_can_say_that_it_is_late(grid: Any) -> None:
    grid.pulls = [[grid.reply(5, RecordDict({ANSWER: ConfigRecord({"code": LATE})}))]]
    assert ask(grid, [5]) == [Answer(request(5), Code.MALFORMED)]


def test_an_error_of_flower_counts_as_failed(grid: Any) -> None:
    """Its text is dropped."""
    grid.pulls = [[grid.reply(5, Error(code=2, reason="patient 4711"))]]
    [answer] = ask(grid, [5])
    assert answer == Answer(request(5), Code.FAILED)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_refusal_is_told_by_its_code(grid: Any, code: Code) -> None:
    """A box that did not open is told with who sealed it, or the answer is malformed."""
    grid.pulls = [[grid.reply(5, RecordDict({ANSWER: ConfigRecord({"code": str(code)})}))]]
    expected = Code.MALFORMED if code is Code.SEALED else code
    assert ask(grid, [5]) == [Answer(request(5), expected)]


def test_an_update_beside_a_refusal_is_not_read(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, update(words(5), code="refused"))]]
    assert ask(grid, [5]) == [Answer(request(5), Code.REFUSED)]


OK = ConfigRecord({"code": "ok"})


@pytest.mark.parametrize(
    "content",
    [
        {},
        {ANSWER: OK},
        {ANSWER: OK, UPDATE: ArrayRecord()},
        {ANSWER: OK, UPDATE: MetricRecord({"a": 1})},
        {ANSWER: OK, UPDATE: OK},
        {ANSWER: ConfigRecord()},
        {ANSWER: ConfigRecord({"code": "fine"})},
        {ANSWER: ConfigRecord({"code": 1})},
        {ANSWER: ConfigRecord({"code": ["ok"]})},
        {ANSWER: ConfigRecord({"code": "ok", "count": 7})},
        {ANSWER: MetricRecord({"code": 1})},
    ],
)
def test_an_answer_that_is_none_counts_as_malformed(grid: Any, content: dict[str, Any]) -> None:
    grid.pulls = [[grid.reply(5, RecordDict(content))]]
    assert ask(grid, [5]) == [Answer(request(5), Code.MALFORMED)]


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float64"},
        {"dtype": "int64"},
        {"stype": "numpy.ndarray"},
        {"shape": (WORDS, 1)},
        {"shape": (WORDS - 1,)},
        {"shape": ()},
        {"data": b""},
        {"data": bytes(8 * WORDS - 1)},
        {"data": bytes(8 * WORDS + 8)},
    ],
)
def test_an_update_that_is_none_counts_as_malformed(grid: Any, update: Update, changes: dict[str, Any]) -> None:
    grid.pulls = [[grid.reply(5, update(words(5), **changes))]]
    assert ask(grid, [5]) == [Answer(request(5), Code.MALFORMED)]


@pytest.mark.parametrize("count", [0, 1, WORDS - 1, WORDS + 1, COUNT])
def test_an_update_of_another_length_counts_as_malformed(grid: Any, update: Update, count: int) -> None:
    grid.pulls = [[grid.reply(5, update(np.zeros(count)))]]
    assert ask(grid, [5]) == [Answer(request(5), Code.MALFORMED)]


def test_two_vectors_in_one_answer_count_as_malformed(grid: Any, update: Update) -> None:
    content = update(words(5))
    array = content.array_records[UPDATE][UPDATE]
    content[UPDATE] = ArrayRecord({"a": array, "b": array})
    grid.pulls = [[grid.reply(5, content)]]
    assert ask(grid, [5]) == [Answer(request(5), Code.MALFORMED)]


def test_a_malformed_answer_does_not_hinder_the_others(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(5, RecordDict()), grid.reply(6, Error(code=2)), grid.reply(7, update(words(7)))]]
    assert [a.code for a in ask(grid, [5, 6, 7])] == [Code.MALFORMED, Code.FAILED, Code.OK]


def test_a_second_answer_of_the_same_node_is_not_counted(grid: Any, update: Update) -> None:
    """Two copies of one update in a sum are twice its sensitivity, under noise for one."""
    grid.pulls = [
        [grid.reply(5, update(words(5)))] * 2,
        [grid.reply(5, update(words(5)))],
        [grid.reply(7, update(words(7)))],
    ]
    assert [a.node for a in ask(grid, [5, 7])] == [5, 7]


def test_an_answer_of_a_node_that_was_not_asked_is_not_counted(grid: Any, update: Update) -> None:
    grid.pulls = [[grid.reply(9, update(words(9))), grid.reply(5, update(words(5)))]]
    assert [a.node for a in ask(grid, [5])] == [5]


def test_an_answer_counts_for_the_node_that_was_asked(grid: Any, update: Update) -> None:
    """The ledger charges this node: a device must not be able to put its cost on another."""
    lying = grid.reply(5, update(words(5)))
    lying.metadata.__dict__["_src_node_id"] = 7
    grid.pulls = [[lying]]
    assert [a.node for a in ask(grid, [5])] == [5]
