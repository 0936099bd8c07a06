"""A secure sum over a grid of real devices, any of which can be made silent or hostile for any message."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.step_journal import MemoryJournal
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task
from bract.models import build, read_flat
from bract.privacy import Contribution, Plan, make_plan, mechanism_of
from bract.privacy.messages import OFFER, SECAGG
from bract.privacy.secagg.identity import Identity, Roster, new_identity, roster_of
from bract.privacy.server_view import ANSWER
from bract.server import exchange
from bract.server.aggregation.base import DeviceLink, RoundInput, RoundSum
from bract.server.aggregation.secure import SecureSum
from bract.simulations.local_grid import FIRST_NODE, LocalGrid

Reply = Callable[[Message], Message | None]


@dataclass(frozen=True)
class Trip:
    """One trip of messages: how many of each kind there are, and to which nodes."""

    kinds: dict[str, int]
    nodes: tuple[int, ...]


class WatchedGrid(LocalGrid):
    """A LocalGrid that writes down what leaves the server."""

    def __init__(self, app: ClientApp, clients: int, executor: Any, seen: list[object]) -> None:
        super().__init__(app, clients, executor)
        self.seen = seen

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        kinds = Counter(message.metadata.message_type for message in pushed)
        self.seen.append(Trip(dict(kinds), tuple(message.metadata.dst_node_id for message in pushed)))
        return super().push_messages(pushed)


@dataclass(repr=False)
class Federation:
    """The server and its devices: `seen` is, in order, each `Trip` and each charge, a list of nodes.

    `tamper` holds, by kind of message and node, and the round or 0 for all, what becomes of the node's reply.
    """

    plan: Plan
    parameters: np.ndarray
    identities: dict[int, Identity]
    vectors: dict[int, np.ndarray]
    journals: dict[int, MemoryJournal] = field(default_factory=lambda: defaultdict(MemoryJournal))
    seen: list[object] = field(default_factory=list)
    tamper: dict[tuple[str, int, int], Reply] = field(default_factory=dict)
    fault: Exception | None = None
    collector: SecureSum = field(init=False)

    @property
    def nodes(self) -> list[int]:
        return sorted(self.vectors)

    @property
    def trips(self) -> list[dict[str, int]]:
        """The kinds of messages in each trip."""
        return [event.kinds for event in self.seen if isinstance(event, Trip)]

    @property
    def charges(self) -> list[list[int]]:
        return [event for event in self.seen if isinstance(event, list)]

    def silence(self, kind: str, nodes: Iterable[int], number: int = 0) -> None:
        """Have these nodes not answer this kind of message."""
        for node in nodes:
            self.tamper[kind, node, number] = lambda reply: None

    def work(self, app: ClientApp, work: Iterable[tuple[Message, Context]]) -> Iterator[Message]:
        """Run the devices; replies are lost or changed as `tamper` says."""
        for message, context in work:
            kind, node = message.metadata.message_type, context.node_id
            number = int(str(message.content.config_records[OFFER]["round"]))
            change = self.tamper.get((kind, node, number)) or self.tamper.get((kind, node, 0))
            reply = app(message, context)
            changed = reply if change is None else change(reply)
            if changed is not None:
                yield changed

    def charge(self, nodes: Sequence[int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.seen.append(sorted(nodes))

    def play(
        self, number: int = 1, cohort: Sequence[int] | None = None, following: Sequence[int] | None = None
    ) -> RoundSum:
        """Collect a round's sum; after it come `following`, all nodes unless given."""
        coming = self.nodes if following is None else following
        ready = self.collector.prepared(number)
        asked = ready or (self.nodes if cohort is None else cohort)
        return self.collector.collect(RoundInput(number, self.parameters, self.charge, lambda _: coming), asked)

    def true(self, nodes: Iterable[int]) -> np.ndarray:
        """The sum of what these nodes hide."""
        return np.sum([self.vectors[node] for node in nodes], axis=0)


def secure_plan(devices: int, tables: dict[str, dict[str, Any]]) -> Plan:
    sections: dict[str, dict[str, Any]] = {
        "data": {"shape": [1, 2, 2], "classes": 3, "clients": devices},
        "model": {"name": "tiny"},
        "training": {"batch_size": 8, "learning_rate": 0.5},
        "cohort": {"rounds": 6, "size": devices, "minimum": 2, "deadline": 0.01},
        "privacy": {"noise": "local", "delta": 1e-3, "sampling_rate": 0.5, "noise_multiplier": 5.0},
        "aggregation": {"protocol": "secagg", "deadline": 0.01},
    }
    return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks for answers without a pause: all that a device of this grid will say is there at once."""
    monkeypatch.setattr(exchange, "POLL_SECONDS", 0.0)


@pytest.fixture
def federation() -> Callable[..., Federation]:
    """A function: so many devices and their server, with keys of the plan such as `cohort={"minimum": 4}`."""

    def made(devices: int = 6, rostered: bool = True, **tables: dict[str, Any]) -> Federation:
        plan = secure_plan(devices, tables)
        parameters = read_flat(build("tiny", plan.data.shape, plan.data.classes, 0))
        nodes = range(FIRST_NODE, FIRST_NODE + devices)
        identities = {node: new_identity() for node in nodes}
        rng, bound = np.random.default_rng(devices), mechanism_of(plan).grid.bound
        vectors = {node: rng.integers(-bound, bound + 1, len(parameters)) for node in nodes}
        federation = Federation(plan, parameters, identities, vectors)
        roster = roster_of(identities.values())
        app = make_app(_opening(federation, roster))
        grid = WatchedGrid(app, devices, federation.work, federation.seen)
        link = DeviceLink(grid, mechanism_of(plan), lambda: None)
        federation.collector = SecureSum(link, grid.run.run_id, roster if rostered else None)
        return federation

    return made


def _opening(federation: Federation, roster: Roster) -> Callable[[Context], Device]:
    records = Records(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))

    def open_device(context: Context) -> Device:
        node = context.node_id

        def telling(task: Task) -> Contribution:
            return Contribution(federation.vectors[node].copy())

        identity = federation.identities[node]
        journal = federation.journals[node]
        return Device(records, Terms(), contribute=telling, identity=identity, roster=roster, journal=journal)

    return open_device


@pytest.fixture
def saying() -> Callable[..., Reply]:
    """A function: what changes a section of a reply, `saying(name, change)`; None takes the section out."""

    def made(name: str, change: Callable[[bytes], bytes | None]) -> Reply:
        def tamper(reply: Message) -> Message:
            sections = dict(reply.content.config_records[SECAGG])
            changed = change(sections.pop(name))  # pyright: ignore
            if changed is not None:
                sections[name] = changed
            reply.content[SECAGG] = ConfigRecord(sections)
            return reply

        return tamper

    return made


@pytest.fixture
def code_only() -> Callable[[str], Reply]:
    """A function: what puts a code alone in a reply's place."""

    def made(code: str) -> Reply:
        def tamper(reply: Message) -> Message:
            reply.content = RecordDict({ANSWER: ConfigRecord({"code": code})})
            return reply

        return tamper

    return made
