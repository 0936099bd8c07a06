"""The exchange, against a grid whose clock and whose devices the test holds in its hands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from bract.privacy.messages import ANSWER, OFFER, PARAMETERS, UPDATE, Code, Offer, read_offer, read_parameters
from bract.server import exchange as exchange_file
from bract.server.exchange import Answer, exchange, nodes

COUNT = 5
Update = Callable[..., RecordDict]
Replies = list[list[Message]]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        assert self.now < 1100.0, "nobody comes any more"
        self.now += seconds


class Script:
    """A grid that gives, at each pull, the next list of replies; and notes all that happens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pulls: Replies = []
        self.pushed: list[Message] = []
        self.waited_for: list[set[str]] = []
        self.connected: Callable[[], list[int]] = list
        self.lost: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        return self.connected()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.pushed = list(messages)
        for message in self.pushed:
            message.metadata.__dict__["_message_id"] = identity(message.metadata.dst_node_id)
        return ["" if m.metadata.dst_node_id in self.lost else m.metadata.message_id for m in self.pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.waited_for.append(set(message_ids))
        return self.pulls.pop(0) if self.pulls else []


def identity(node: int) -> str:
    return f"message {node}"


def reply(node: int, body: RecordDict | Error) -> Message:
    """A node's reply to the message it got."""
    asked = Message(RecordDict(), node, "train", group_id="1")
    asked.metadata.__dict__["_message_id"] = identity(node)
    return Message(body, reply_to=asked)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock()
    monkeypatch.setattr(exchange_file, "time", clock)
    for name in ("push_messages", "pull_messages", "get_node_ids"):
        assert hasattr(Grid, name)
    return Script(clock)


def numbers(node: int) -> np.ndarray:
    return np.arange(COUNT, dtype=np.int64) * node - 2**45


def ask(grid: Any, cohort: list[int], deadline: float = 10.0) -> list[Answer]:
    return list(exchange(grid, Offer(3, "the plan"), np.zeros(COUNT, dtype=np.float32), cohort, deadline))


def test_each_node_of_the_cohort_is_offered_the_round_the_plan_and_the_parameters(grid: Any) -> None:
    parameters = np.linspace(-1, 1, COUNT).astype(np.float32)
    list(exchange(grid, Offer(3, "the plan"), parameters, [5, 7], 10.0))
    assert [m.metadata.dst_node_id for m in grid.pushed] == [5, 7]
    for message in grid.pushed:
        assert set(message.content) == {OFFER, PARAMETERS}
        assert read_offer(message.content.config_records[OFFER]) == Offer(3, "the plan")
        [array] = message.content.array_records[PARAMETERS].values()
        assert np.array_equal(read_parameters(array.dtype, array.shape, array.stype, array.data), parameters)
        metadata = message.metadata
        assert (metadata.message_type, metadata.group_id, metadata.ttl) == ("train", "3", 10.0)


def test_one_copy_of_the_parameters_is_made_for_all(grid: Any) -> None:
    ask(grid, [5, 6, 7])
    assert len({id(m.content[PARAMETERS]) for m in grid.pushed}) == 1


def test_an_answer_holds_the_nodes_update_bit_for_bit(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, update(numbers(5))), reply(7, update(numbers(7)))]]
    answers = ask(grid, [5, 7])
    assert [(a.node, a.code) for a in answers] == [(5, Code.OK), (7, Code.OK)]
    assert all(a.update is not None and np.array_equal(a.update, numbers(a.node)) for a in answers)


def test_an_answer_does_not_print_its_update(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, update(np.full(COUNT, 987654321)))]]
    [answer] = ask(grid, [5])
    assert "987654321" not in repr(answer)


def test_answers_come_as_they_arrive_before_the_next_are_asked_for(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(7, update(numbers(7)))], [], [reply(5, update(numbers(5)))]]
    arriving = exchange(grid, Offer(3, "p"), np.zeros(COUNT, dtype=np.float32), [5, 7], 10.0)
    assert next(arriving).node == 7
    assert len(grid.waited_for) == 1
    assert next(arriving).node == 5
    assert grid.waited_for[1:] == [{identity(5)}, {identity(5)}]
    assert next(arriving, None) is None
    assert len(grid.waited_for) == 3


def test_when_all_have_answered_nothing_is_waited_for(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, update(numbers(5)))]]
    ask(grid, [5])
    assert grid.clock.now == 1000.0


def test_a_node_that_is_late_is_not_waited_for(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, update(numbers(5)))]]
    assert [a.node for a in ask(grid, [5, 7], deadline=3.0)] == [5]
    assert 1003.0 <= grid.clock.now <= 1003.5


def test_a_reply_that_arrives_after_the_deadline_is_not_taken(grid: Any, update: Update) -> None:
    grid.pulls = [[] for _ in range(100)] + [[reply(5, update(numbers(5)))]]
    assert ask(grid, [5], deadline=3.0) == []


def test_a_message_that_could_not_be_sent_is_not_waited_for(grid: Any, update: Update) -> None:
    grid.lost = {7}
    grid.pulls = [[reply(5, update(numbers(5)))]]
    assert [a.node for a in ask(grid, [5, 7])] == [5]
    assert grid.clock.now == 1000.0


def test_an_empty_cohort_gives_no_answer(grid: Any) -> None:
    assert ask(grid, []) == []
    assert grid.clock.now == 1000.0


def test_an_error_of_flower_counts_as_failed_and_its_text_is_dropped(grid: Any) -> None:
    grid.pulls = [[reply(5, Error(code=2, reason="patient 4711"))]]
    [answer] = ask(grid, [5])
    assert answer == Answer(5, Code.FAILED, None)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_refusal_is_told_by_its_code(grid: Any, code: Code) -> None:
    grid.pulls = [[reply(5, RecordDict({ANSWER: ConfigRecord({"code": str(code)})}))]]
    assert ask(grid, [5]) == [Answer(5, code, None)]


def test_an_update_beside_a_refusal_is_not_read(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, update(numbers(5), code="terms"))]]
    assert ask(grid, [5]) == [Answer(5, Code.TERMS, None)]


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
    grid.pulls = [[reply(5, RecordDict(content))]]
    assert ask(grid, [5]) == [Answer(5, Code.MALFORMED, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float64"},
        {"dtype": "uint64"},
        {"stype": "numpy.ndarray"},
        {"shape": (COUNT, 1)},
        {"shape": (COUNT - 1,)},
        {"shape": ()},
        {"data": b""},
        {"data": bytes(8 * COUNT - 1)},
        {"data": bytes(8 * COUNT + 8)},
    ],
)
def test_an_update_that_is_none_counts_as_malformed(grid: Any, update: Update, changes: dict[str, Any]) -> None:
    grid.pulls = [[reply(5, update(numbers(5), **changes))]]
    assert ask(grid, [5]) == [Answer(5, Code.MALFORMED, None)]


@pytest.mark.parametrize("count", [0, 1, COUNT - 1, COUNT + 1])
def test_an_update_of_another_length_counts_as_malformed(grid: Any, update: Update, count: int) -> None:
    grid.pulls = [[reply(5, update(np.zeros(count)))]]
    assert ask(grid, [5]) == [Answer(5, Code.MALFORMED, None)]


def test_two_vectors_in_one_answer_count_as_malformed(grid: Any, update: Update) -> None:
    content = update(numbers(5))
    array = content.array_records[UPDATE][UPDATE]
    content[UPDATE] = ArrayRecord({"a": array, "b": array})
    grid.pulls = [[reply(5, content)]]
    assert ask(grid, [5]) == [Answer(5, Code.MALFORMED, None)]


def test_a_malformed_answer_does_not_hinder_the_others(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(5, RecordDict()), reply(6, Error(code=2)), reply(7, update(numbers(7)))]]
    assert [a.code for a in ask(grid, [5, 6, 7])] == [Code.MALFORMED, Code.FAILED, Code.OK]


def test_a_second_answer_of_the_same_node_is_not_counted(grid: Any, update: Update) -> None:
    """Two copies of one update in a sum are twice its sensitivity, under noise for one."""
    grid.pulls = [[reply(5, update(numbers(5)))] * 2, [reply(5, update(numbers(5)))], [reply(7, update(numbers(7)))]]
    assert [a.node for a in ask(grid, [5, 7])] == [5, 7]


def test_an_answer_of_a_node_that_was_not_asked_is_not_counted(grid: Any, update: Update) -> None:
    grid.pulls = [[reply(9, update(numbers(9))), reply(5, update(numbers(5)))]]
    assert [a.node for a in ask(grid, [5])] == [5]


def test_an_answer_counts_for_the_node_that_was_asked_whatever_name_it_gives(grid: Any, update: Update) -> None:
    """The ledger charges this node: a device must not be able to put its cost on another."""
    lying = reply(5, update(numbers(5)))
    lying.metadata.__dict__["_src_node_id"] = 7
    grid.pulls = [[lying]]
    assert [a.node for a in ask(grid, [5])] == [5]


def test_nodes_are_told_sorted_as_soon_as_there_are_enough(grid: Any) -> None:
    grid.connected = lambda: [9, 4, 6]
    assert nodes(grid, 3, 10.0) == [4, 6, 9]
    assert grid.clock.now == 1000.0


def test_more_nodes_than_wanted_are_all_told(grid: Any) -> None:
    grid.connected = lambda: [9, 4, 6]
    assert nodes(grid, 1, 10.0) == [4, 6, 9]


def test_nodes_that_connect_in_time_are_waited_for(grid: Any) -> None:
    grid.connected = lambda: [9] if grid.clock.now < 1002.0 else [9, 4]
    assert nodes(grid, 2, 10.0) == [4, 9]
    assert 1002.0 <= grid.clock.now <= 1002.5


def test_after_the_deadline_those_that_are_there_are_told(grid: Any) -> None:
    grid.connected = lambda: [9]
    assert nodes(grid, 2, 10.0) == [9]
    assert 1010.0 <= grid.clock.now <= 1010.5
