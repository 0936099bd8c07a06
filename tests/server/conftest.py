"""What the tests of the server share: a network of 15 parameters, small plans, devices that only count, and a grid
whose clock and whose replies a test holds in its hands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from bract.models import NETWORKS, Network
from bract.privacy import Mechanism, Plan, Sum, make_plan, mechanism_of, parse_tables
from bract.privacy.messages import OFFER, PARAMETERS, RAW, read_parameters
from bract.privacy.server_view import ANSWER, UPDATE
from bract.server import exchange

SHAPE, CLASSES = (1, 2, 2), 3


def tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.name = "tiny"` is known."""
    monkeypatch.setitem(NETWORKS, "tiny", Network("tiny", tiny))


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only in a process that knows which task it runs."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def make() -> Callable[..., Plan]:
    """A function: a plan of three rounds of four clients, with keys such as `privacy={"noise": "local"}`."""

    def plan(**tables: dict[str, Any]) -> Plan:
        sections: dict[str, dict[str, Any]] = {
            "data": {"shape": list(SHAPE), "classes": CLASSES, "clients": 4},
            "model": {"name": "tiny"},
            "training": {"batch_size": 8, "learning_rate": 0.5},
            "cohort": {"rounds": 3, "size": 4, "minimum": 2, "deadline": 5.0},
            "privacy": {
                "noise": "central",
                "epsilon": 8.0,
                "delta": 1e-3,
                "sampling_rate": 0.5,
                "noise_multiplier": 3.0,
            },
            "aggregation": {},
            "server": {},
        }
        return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)

    return plan


Answer = Callable[..., RecordDict]
App = Callable[[Message, Context], Message]


@pytest.fixture
def update() -> Answer:
    """A function: the content of an answer that holds these words, uint64; its parts can be changed."""

    def content(words: np.ndarray, code: str = "ok", **changes: Any) -> RecordDict:
        fields = {"dtype": "uint64", "shape": words.shape, "stype": RAW, "data": words.astype("<u8").tobytes()}
        records = ArrayRecord({UPDATE: Array(**(fields | changes))})
        return RecordDict({ANSWER: ConfigRecord({"code": code}), UPDATE: records})

    return content


@pytest.fixture
def counter(update: Answer) -> App:
    """A ClientApp whose update is a function of the node and of the parameters it was offered."""

    def app(message: Message, context: Context) -> Message:
        [array] = message.content.array_records[PARAMETERS].values()
        parameters = read_parameters(array.dtype, array.shape, array.stype, array.data)
        plan = Plan.model_validate(parse_tables(str(message.content.config_records[OFFER]["plan"])))
        mechanism = mechanism_of(plan)
        numbers = np.rint(parameters.astype(np.float64) / (4 * mechanism.grid.step)) + 20 * context.node_id
        bounded = np.clip(numbers, -mechanism.grid.bound, mechanism.grid.bound).astype(np.int64)
        return Message(update(mechanism.grid.ring.encode(bounded)), reply_to=message)

    return app


@pytest.fixture
def refusing() -> Callable[..., App]:
    """A function: the app, but these nodes answer with a code."""

    def made(app: App, nodes: set[int], code: str = "refused") -> App:
        def answer(message: Message, context: Context) -> Message:
            if context.node_id in nodes:
                return Message(RecordDict({ANSWER: ConfigRecord({"code": code})}), reply_to=message)
            return app(message, context)

        return answer

    return made


@pytest.fixture
def spied() -> Callable[..., Mechanism]:
    """A function: the plan's mechanism, which tells of every sum before it releases it."""

    def made(plan: Plan, note: Callable[[Sum], None]) -> Mechanism:
        kind: Any = type(mechanism_of(plan))

        class Spied(kind):
            def release(self, total: Sum, *rest: Any) -> Any:
                note(total)
                return super().release(total, *rest)

        return Spied(plan)

    return made


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
        self.pulls: list[list[Message]] = []
        self.pushed: list[Message] = []
        self.waited_for: list[set[str]] = []
        self.connected: Callable[[], list[int]] = list
        self.lost: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        return self.connected()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.pushed = list(messages)
        for message in self.pushed:
            message.metadata.__dict__["_message_id"] = self.identity(message.metadata.dst_node_id)
        return ["" if m.metadata.dst_node_id in self.lost else m.metadata.message_id for m in self.pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.waited_for.append(set(message_ids))
        return self.pulls.pop(0) if self.pulls else []

    def identity(self, node: int) -> str:
        """The number of the message that a node got."""
        return f"message {node}"

    def reply(self, node: int, body: RecordDict | Error) -> Message:
        """A node's reply to the message it got."""
        asked = Message(RecordDict(), node, "train", group_id="1")
        asked.metadata.__dict__["_message_id"] = self.identity(node)
        return Message(body, reply_to=asked)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A grid that gives the replies it is told to give."""
    clock = Clock()
    monkeypatch.setattr(exchange, "time", clock)
    for name in ("push_messages", "pull_messages", "get_node_ids"):
        assert hasattr(Grid, name)
    return Script(clock)
