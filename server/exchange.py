"""The exchange of messages with devices over Flower; no other file of the server uses its messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from numpy.typing import NDArray

from ..privacy import Mechanism
from ..privacy.messages import BOXES, OFFER, PARAMETERS, RAW, SECAGG, TRAIN, Malformed, Offer, Sections, read_sections
from ..privacy.server_view import ANSWER, ANSWER_SECTIONS, UPDATE, Code, read_code, read_update

POLL_SECONDS = 0.1
Found = TypeVar("Found")

LATE = "late"
"""The code of a node that did not answer in time or could not be reached."""

AWAY = {ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE}
"""Flower's errors for a node that has gone, or did not answer before the message expired."""


@dataclass(frozen=True, repr=False)
class Request:
    """A message to one node: its kind, the round, its sections of secure aggregation, the scale of the clip norm."""

    node: int
    kind: str
    round: int
    sections: Sections = field(default_factory=dict)
    scale: float = 1.0


@dataclass(frozen=True, repr=False)
class Answer:
    """The answer to a request: the node's code, and for `ok` its update, uint64 [words], and its sections, secret.

    The code of a node that did not answer is LATE.
    """

    request: Request
    code: str
    update: NDArray[np.uint64] | None = None
    sections: Sections = field(default_factory=dict)

    @property
    def node(self) -> int:
        """The node that the request was sent to."""
        return self.request.node

    @property
    def late(self) -> bool:
        """Whether the node did not answer in time."""
        return self.code == LATE


def poll(find: Callable[[], Found], enough: Callable[[Found], bool], deadline: float) -> Found:
    """Return the result of `find` once `enough` accepts it, or once `deadline` seconds have passed."""
    end = time.monotonic() + deadline
    while True:
        found = find()
        if enough(found) or time.monotonic() >= end:
            return found
        time.sleep(POLL_SECONDS)


def wait(seconds: float) -> None:
    """Sleep for this time."""
    if seconds > 0:
        time.sleep(seconds)


def exchange(
    grid: Grid, mechanism: Mechanism, requests: Sequence[Request], parameters: NDArray[np.float32], deadline: float
) -> Iterator[Answer]:
    """Send all requests and yield exactly one answer for each as it arrives; at the deadline, the rest are LATE.

    Requests to train share one copy of the parameters, float32 [parameters]. `deadline` is in
    seconds. A malformed answer has the code `malformed`.
    """
    data = parameters.astype("<f4").tobytes() if any(request.kind == TRAIN for request in requests) else b""
    array = Array(dtype="float32", shape=tuple(parameters.shape), stype=RAW, data=data)
    offered, model = mechanism.plan.offered(), ArrayRecord({PARAMETERS: array})
    messages = [_message(request, offered, model, deadline) for request in requests]
    words = mechanism.grid.ring.words(mechanism.coordinates(len(parameters)))
    unanswered = dict(enumerate(requests))
    for place, reply in _replies(grid, messages, deadline):
        yield _answer(unanswered.pop(place), reply, words)
    for request in unanswered.values():
        yield Answer(request, LATE)


def _message(request: Request, plan: str, model: ArrayRecord, deadline: float) -> Message:
    content = RecordDict({OFFER: ConfigRecord(Offer(request.round, plan, request.scale).to_fields())})  # pyright: ignore
    if request.kind == TRAIN:
        content[PARAMETERS] = model
    if request.sections:
        content[SECAGG] = ConfigRecord(dict(request.sections))
    return Message(content, request.node, request.kind, ttl=deadline, group_id=str(request.round))


def _replies(grid: Grid, messages: Sequence[Message], deadline: float) -> Iterator[tuple[int, Message]]:
    """Yield each reply with the index of the message that it answers; the sender that it states is ignored."""
    if not messages:
        return
    identities = list(grid.push_messages(messages))
    waiting = {identity: place for place, identity in enumerate(identities) if identity}
    end = time.monotonic() + deadline
    while waiting:
        arrived = False
        for reply in grid.pull_messages(list(waiting)):
            if reply.metadata.reply_to_message_id in waiting:  # a second answer to an offer is ignored
                arrived = True
                yield waiting.pop(reply.metadata.reply_to_message_id), reply
        if not arrived:
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)


def _answer(request: Request, reply: Message, words: int) -> Answer:
    if reply.has_error():
        return Answer(request, LATE if reply.error.code in AWAY else Code.FAILED)
    try:
        records = reply.content
        code = read_code(records.config_records[ANSWER])
        if code is not Code.OK:
            named = ("senders",) if code is Code.SEALED and request.kind in (BOXES, TRAIN) else ()
            said = records.config_records.get(SECAGG, ConfigRecord()) if named else {}
            return Answer(request, code, None, read_sections(said, named))
        sections = read_sections(records.config_records.get(SECAGG, ConfigRecord()), (), ANSWER_SECTIONS)
        if request.kind != TRAIN:
            return Answer(request, code, None, sections)
        [array] = records.array_records[UPDATE].values()
        update = read_update(array.dtype, array.shape, array.stype, array.data, words)
        return Answer(request, code, update, sections)
    except (Malformed, KeyError, ValueError):
        return Answer(request, Code.MALFORMED)
