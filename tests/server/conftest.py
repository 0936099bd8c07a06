"""What the tests of the server share: a network of 15 parameters, small plans, and devices that only count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from bract.models import MODELS
from bract.privacy import Keystream, Plan, Release, Sum, make_plan
from bract.privacy.messages import ANSWER, PARAMETERS, RAW, UPDATE, read_parameters
from bract.server.release import RELEASES

SHAPE, CLASSES = (1, 2, 2), 3


def tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are faster on one thread, and leave the other cores to other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.name = "tiny"` is known."""
    monkeypatch.setitem(MODELS, "tiny", tiny)


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
            "server": {},
        }
        return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)

    return plan


Answer = Callable[..., RecordDict]
App = Callable[[Message, Context], Message]


@pytest.fixture
def update() -> Answer:
    """A function: the content of an answer that holds these int64 numbers; its parts can be changed."""

    def content(numbers: np.ndarray, code: str = "ok", **changes: Any) -> RecordDict:
        fields = {"dtype": "int64", "shape": numbers.shape, "stype": RAW, "data": numbers.astype("<i8").tobytes()}
        records = ArrayRecord({UPDATE: Array(**(fields | changes))})
        return RecordDict({ANSWER: ConfigRecord({"code": code}), UPDATE: records})

    return content


@pytest.fixture
def counter(update: Answer) -> App:
    """A ClientApp whose update is a function of the node and of the parameters it was offered."""

    def app(message: Message, context: Context) -> Message:
        [array] = message.content.array_records[PARAMETERS].values()
        parameters = read_parameters(array.dtype, array.shape, array.stype, array.data)
        numbers = np.rint(parameters.astype(np.float64) * 2.0**28).astype(np.int64) + 1000 * context.node_id
        return Message(update(numbers), reply_to=message)

    return app


@pytest.fixture
def refusing() -> Callable[..., App]:
    """A function: the app, but these nodes answer with a code."""

    def made(app: App, nodes: set[int], code: str = "terms") -> App:
        def answer(message: Message, context: Context) -> Message:
            if context.node_id in nodes:
                return Message(RecordDict({ANSWER: ConfigRecord({"code": code})}), reply_to=message)
            return app(message, context)

        return answer

    return made


@pytest.fixture
def spied() -> Callable[..., dict[tuple[str, str], Any]]:
    """A function: the plan's release function, told of every sum it opens before it does."""

    def made(plan: Plan, note: Callable[[Sum], None]) -> dict[tuple[str, str], Any]:
        def release(total: Sum, plan: Plan, noise: Keystream) -> Release:
            note(total)
            return RELEASES[plan.cell](total, plan, noise)

        return {plan.cell: release}

    return made
