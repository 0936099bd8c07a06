"""LocalGrid: Flower's Grid in this process. No Ray, no serialization, no waiting."""

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

from ..client.memory.run_history import write_history
from ..privacy import Plan
from ..privacy.messages import ANSWER, SECAGG, WHO, Code

RUN_ID, SERVER_ID = 1, 1
FIRST_NODE = 2
"""Node numbers start above the server's own; client k of the population is node k + FIRST_NODE."""


def client_names(clients: int) -> list[str]:
    """Return the names of a population's clients: their numbers, of the same length, so that they sort alike.

    >>> client_names(11)[-2:]
    ['09', '10']
    """
    width = len(str(clients - 1))
    return [f"{number:0{width}}" for number in range(clients)]


Work = Iterable[tuple[Message, Context]]
Executor = Callable[[ClientApp, Work], Iterator[Message]]


def serial(app: ClientApp, work: Work) -> Iterator[Message]:
    """Yield each device's reply in turn; a device trains when its reply is asked for."""
    for message, context in work:
        yield app(message, context)


EXECUTORS: Mapping[str, Executor] = {"serial": serial}


class LocalGrid(Grid):
    """A grid of `clients` simulated devices that all run `app`, each with a context of its own.

    It knows who is who, so it says itself what a real device is asked: the client's name is its number.
    Replies are made one by one as they are pulled, so one update is held at a time however large the cohort.
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
        """Set how many rounds each client took part in, the last of them being `last`: what a resumed run needs."""
        for node, name in self.names.items():
            if name in rounds:
                write_history(self._contexts[node], rounds[name], last, RUN_ID, plan)

    def forget(self) -> None:
        """Let go of all that the devices remember, the secrets of a round under way among it: the run is over."""
        self._queue.clear()
        self._replies = iter(())
        for context in self._contexts.values():
            context.state = RecordDict()

    def set_run(self, run: Run) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(RUN_ID)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes, all of them connected at all times."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue the messages, in place of any that still wait, and return their new identities."""
        sent = [self._addressed(message) for message in messages]
        self._queue = deque(one for one in sent if one[0].metadata.message_type != WHO)
        named = (self._named(message) for message, _ in sent if message.metadata.message_type == WHO)
        self._replies = chain(named, self._executor(self._app, self._drain()))
        return [message.metadata.message_id for message, _ in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the next reply, or nothing if all were given; replies come in the order of their messages."""
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
