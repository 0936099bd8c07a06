"""Devices for tests: a network of 51 parameters, small plans, small records, hand-made offers, and a node."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto, recorddict_to_proto
from torch import nn

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records
from bract.client.run_history import HISTORY
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.models import build, read_flat
from bract.privacy import Plan, make_plan
from bract.privacy.messages import OFFER, PARAMETERS, RAW
from bract.privacy.server_view import ANSWER, Code

SHAPE, CLASSES = (1, 2, 2), 3
COUNT, NODE = 51, 2


def tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 6), nn.Tanh(), nn.Linear(6, classes))


def make_tiny_plan(**tables: dict[str, Any]) -> Plan:
    """A plan over records of 1x2x2 and 3 classes, with keys such as `privacy={"noise": "central"}`."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"shape": list(SHAPE), "classes": CLASSES, "clients": 2},
        "model": {"name": "tiny"},
        "training": {"batch_size": 8, "learning_rate": 0.5},
        "cohort": {"rounds": 4, "size": 1},
        "privacy": {
            "noise": "local",
            "epsilon": 8.0,
            "delta": 1e-3,
            "sampling_rate": 0.5,
            "noise_multiplier": 3.0,
        },
        "aggregation": {},
    }
    return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)


def random_records(count: int, seed: int = 0, scale: float = 1.0) -> Records:
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(count, *SHAPE, generator=generator)
    return Records(features, torch.randint(0, CLASSES, (count,), generator=generator))


def node_context(**node_config: str) -> Context:
    return Context(run_id=1, node_id=NODE, node_config=dict(node_config), state=RecordDict(), run_config={})


def first_vector(plan: Plan) -> np.ndarray:
    return read_flat(build(plan.model.name, plan.data.shape, plan.data.classes, seed=0))


def packed_array(numbers: np.ndarray, **changes: Any) -> Array:
    fields = {"dtype": "float32", "shape": numbers.shape, "stype": RAW, "data": numbers.astype("<f4").tobytes()}
    return Array(**(fields | changes))


def make_offer(plan: Plan | str, number: Any = 1, array: Array | None = None, **extra: Any) -> RecordDict:
    text = plan if isinstance(plan, str) else plan.offered()
    array = array or packed_array(np.zeros(COUNT) if isinstance(plan, str) else first_vector(plan))
    fields = {"round": number, "plan": text, **extra}
    return RecordDict({OFFER: ConfigRecord(fields), PARAMETERS: ArrayRecord({PARAMETERS: array})})


def make_message(content: RecordDict, kind: str = "train") -> Message:
    made = Message(content, NODE, kind, ttl=60.0, group_id="1")
    made.metadata.__dict__["_message_id"] = "7"
    return made


def sent_bytes(reply: Message) -> bytes:
    """All bytes of a reply that reach the server."""
    assert reply.has_content()
    body = recorddict_to_proto(reply.content).SerializeToString() + message_to_proto(reply).SerializeToString()
    return body + repr(reply.metadata).encode()


def said_code(reply: Message) -> Code:
    """The code of a reply that must hold nothing but a code."""
    content = reply.content
    assert list(content) == [ANSWER]
    assert not content.array_records
    assert not content.metric_records
    assert list(content.config_records[ANSWER]) == ["code"]
    return Code(str(content.config_records[ANSWER]["code"]))


def holds_update(reply: Message) -> bool:
    return reply.content.config_records[ANSWER]["code"] == "ok"


@dataclass
class Node:
    """A node with its app and its state, to which offers are made; `ran` counts how often it trained."""

    app: ClientApp
    context: Context
    ran: list[Task]

    def answer(self, content: RecordDict) -> Message:
        return self.app(make_message(content), self.context)

    @property
    def counted(self) -> int:
        history = self.context.state.config_records.get(HISTORY)
        return 0 if history is None else int(str(history["rounds"]))


def make_node(records: Records | None = None, **parts: Any) -> Node:
    """A node with these records, and with what a `Device` takes besides."""
    ran: list[Task] = []
    contribute = parts.pop("contribute", contribution)
    device = Device(
        records or random_records(12),
        parts.pop("terms", Terms(clear_updates=True)),
        contribute=lambda task: ran.append(task) or contribute(task),
        **parts,
    )
    return Node(make_app(lambda _: device), node_context(), ran)
