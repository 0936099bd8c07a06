"""An in-process implementation of Flower's Grid: without Ray, serialization or waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from uuid import uuid4

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from ..client.run_history import write_history
from ..privacy import Plan
from ..privacy.messages import SECAGG, WHO
from ..privacy.server_view import ANSWER, Code

RUN_ID, SERVER_ID = 1, 1
FIRST_NODE = 2
"""The node of client 0; client k of the population is node k + FIRST_NODE."""


def client_names(clients: int) -> list[str]:
    """Return the clients' names: their numbers, padded with zeros so that names sort as numbers do.

    >>> client_names(11)[-2:]
    ['09', '10']
    """
    width = len(str(clients - 1))
    return [f"{number:0{width}}" for number in range(clients)]


Work = Iterable[tuple[Message, Context]]
Executor = Callable[[ClientApp, Work], Iterator[Message]]


def serial(app: ClientApp, work: Work) -> Iterator[Message]:
    """Yield each device's reply in turn; a device trains when its reply is pulled."""
    for message, context in work:
        yield app(message, context)


EXECUTORS: Mapping[str, Executor] = {"serial": serial}


class LocalGrid(Grid):
    """A grid of `clients` simulated devices. All run `app`, each in its own context.

    The grid itself answers the server's question for a device's name: the name is the client's number.
    Replies are computed one at a time as they are pulled, so memory holds one update whatever the cohort size.
    """

    def __init__(self, app: ClientApp, clients: int, executor: Executor = serial) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_ID, 1
        self._app = app
        self._executor = executor
        self._contexts = {node: _context(node) for node in range(FIRST_NODE, FIRST_NODE + clients)}
        self._queue: deque[tuple[Message, Context]] = deque()
        self._replies: Iterator[Message] = iter(())
        self.names = dict(zip(self._contexts, client_names(clients), strict=True))

    def restore(self, rounds: Mapping[str, int], last: int, plan: Plan) -> None:
        """Restore the participation history of a resumed run: rounds per client, and the `last` finished round."""
        for node, name in self.names.items():
            if name in rounds:
                write_history(self._contexts[node], rounds[name], last, RUN_ID, plan)

    def forget(self) -> None:
        """Delete the state of all devices, including the secrets of an unfinished round, when the run ends."""
        self._queue.clear()
        self._replies = iter(())
        for context in self._contexts.values():
            context.state = RecordDict()

    def set_run(self, run: Run) -> None:
        """Do nothing: a simulation has exactly one run."""

    @property
    def run(self) -> Run:
        """The run of this simulation."""
        return Run.create_empty(RUN_ID)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes; simulated devices are always connected."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue the messages, discard any still waiting, and return the new messages' ids."""
        sent = [self._addressed(message) for message in messages]
        self._queue = deque(one for one in sent if one[0].metadata.message_type != WHO)
        named = (self._named(message) for message, _ in sent if message.metadata.message_type == WHO)
        self._replies = chain(named, self._executor(self._app, self._drain()))
        return [message.metadata.message_id for message, _ in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the next reply in the order of the messages, or an empty list after the last one."""
        del message_ids
        reply = next(self._replies, None)
        return [] if reply is None else [reply]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return the replies to all messages."""
        del timeout
        self.push_messages(messages)
        return list(self._replies)

    def _named(self, message: Message) -> Message:
        name = self.names[message.metadata.dst_node_id].encode()
        content = RecordDict({ANSWER: ConfigRecord({"code": str(Code.OK)}), SECAGG: ConfigRecord({"name": name})})
        return Message(content, reply_to=message)

    def _addressed(self, message: Message) -> tuple[Message, Context]:
        message.metadata.__dict__["_message_id"] = uuid4().hex
        return message, self._contexts[message.metadata.dst_node_id]

    def _drain(self) -> Iterator[tuple[Message, Context]]:
        while self._queue:
            yield self._queue.popleft()


def _context(node: int) -> Context:
    return Context(run_id=RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})
