"""LocalGrid: a Grid like any other to the round loop, one update at a time."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from bract.client.run_history import HISTORY
from bract.privacy import Plan
from bract.simulations.local_grid import EXECUTORS, FIRST_NODE, LocalGrid


@pytest.fixture
def app() -> ClientApp:
    """Devices that answer with what they were sent, and count in their state how often they were asked."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        asked = int(str(context.state.config_records.get("asked", {"times": 0})["times"])) + 1
        context.state["asked"] = ConfigRecord({"times": asked})
        sent = message.content.config_records["sent"]["word"]
        answer = ConfigRecord({"word": sent, "node": context.node_id, "asked": asked})
        return Message(RecordDict({"answer": answer}), reply_to=message)

    return app


def offer(grid: LocalGrid, nodes: list[int]) -> list[Message]:
    return [Message(RecordDict({"sent": ConfigRecord({"word": f"to {node}"})}), node, "train") for node in nodes]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_node_answers_its_own_message(executor: str, app: ClientApp) -> None:
    grid = LocalGrid(app, 4, EXECUTORS[executor])
    nodes = sorted(grid.get_node_ids())
    assert nodes == list(range(FIRST_NODE, FIRST_NODE + 4))
    for asked in (1, 2):  # a node's state lasts from round to round
        replies = list(grid.send_and_receive(offer(grid, nodes)))
        answers = [dict(reply.content.config_records["answer"]) for reply in replies]
        assert answers == [{"word": f"to {node}", "node": node, "asked": asked} for node in nodes]
        assert [reply.metadata.src_node_id for reply in replies] == nodes


def test_a_device_trains_when_its_reply_is_pulled_and_not_before(app: ClientApp) -> None:
    ran: list[int] = []

    def watched(message: Message, context: Context) -> Message:
        ran.append(context.node_id)
        return app(message, context)

    grid = LocalGrid(watched, 3)
    waiting = set(grid.push_messages(offer(grid, [2, 3, 4])))
    assert ran == []
    assert len(waiting) == 3
    for count in (1, 2, 3):
        [reply] = grid.pull_messages(waiting)
        waiting.remove(reply.metadata.reply_to_message_id)
        assert len(ran) == count
    assert list(grid.pull_messages(waiting)) == []


def test_pushing_again_drops_what_still_waited(app: ClientApp) -> None:
    grid = LocalGrid(app, 3)
    grid.push_messages(offer(grid, [2, 3, 4]))
    ids = grid.push_messages(offer(grid, [4]))
    [reply] = grid.pull_messages(ids)
    assert reply.metadata.src_node_id == 4
    assert list(grid.pull_messages(ids)) == []


def test_restored_nodes_know_what_they_took_part_in(app: ClientApp) -> None:
    seen: dict[int, dict] = {}

    def watched(message: Message, context: Context) -> Message:
        seen[context.node_id] = dict(context.state.config_records.get(HISTORY, {}))
        return app(message, context)

    grid = LocalGrid(watched, 2)
    plan = Plan()
    grid.restore({"0": 5}, 7, plan)
    list(grid.send_and_receive(offer(grid, [2, 3])))
    assert seen == {2: {"rounds": 5, "last": 7, "run": "1", "plan": plan.digest}, 3: {}}


def test_messages_are_handed_over_as_they_are(app: ClientApp) -> None:
    got: list[RecordDict] = []

    def watched(message: Message, context: Context) -> Message:
        got.append(message.content)
        return app(message, context)

    grid = LocalGrid(watched, 1)
    [message] = offer(grid, [2])
    list(grid.send_and_receive([message]))
    assert got[0] is message.content
    assert np.array_equal(list(grid.get_node_ids()), [2])
