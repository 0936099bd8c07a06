"""The one file of the server that speaks Flower: offers out, answers in as they arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from ..privacy.messages import (
    ANSWER,
    OFFER,
    PARAMETERS,
    RAW,
    UPDATE,
    Code,
    Malformed,
    Offer,
    read_code,
    read_update,
)

POLL_SECONDS = 0.1


@dataclass(frozen=True, repr=False)
class Answer:
    """One device's answer: its code, and with `ok` its update, int64 [parameters], secret."""

    node: int
    code: Code
    update: NDArray[np.int64] | None = None


def nodes(grid: Grid, wanted: int, deadline: float) -> list[int]:
    """Return the connected nodes, sorted, once there are `wanted` of them or `deadline` seconds have passed."""
    end = time.monotonic() + deadline
    while len(found := sorted(grid.get_node_ids())) < wanted and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return found


def exchange(
    grid: Grid, offer: Offer, parameters: NDArray[np.float32], cohort: Sequence[int], deadline: float
) -> Iterator[Answer]:
    """Offer the round to every node of the cohort and yield the answers as they arrive, until the deadline.

    Parameters are float32 [parameters]; one copy is made for all. `deadline` is in seconds. A node that does not
    answer in time is not waited for; a malformed answer counts as its code.
    """
    array = Array(dtype="float32", shape=tuple(parameters.shape), stype=RAW, data=parameters.astype("<f4").tobytes())
    content = RecordDict(
        {OFFER: ConfigRecord(offer.to_fields()), PARAMETERS: ArrayRecord({PARAMETERS: array})}  # pyright: ignore
    )
    group = str(offer.round)
    messages = [Message(content, node, "train", ttl=deadline, group_id=group) for node in cohort]
    for node, reply in _replies(grid, messages, deadline):
        yield _answer(node, reply, len(parameters))


def _replies(grid: Grid, messages: Sequence[Message], deadline: float) -> Iterator[tuple[int, Message]]:
    """Yield each reply with the node whose message it answers, whatever node it says it comes from."""
    identities = list(grid.push_messages(messages))
    nodes = [message.metadata.dst_node_id for message in messages]
    waiting = {identity: node for identity, node in zip(identities, nodes, strict=True) if identity}
    end = time.monotonic() + deadline
    while waiting:
        arrived = False
        for reply in grid.pull_messages(list(waiting)):
            if reply.metadata.reply_to_message_id in waiting:  # a second answer to one offer does not count
                arrived = True
                yield waiting.pop(reply.metadata.reply_to_message_id), reply
        if not arrived:
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)


def _answer(node: int, reply: Message, count: int) -> Answer:
    if reply.has_error():
        return Answer(node, Code.FAILED)
    try:
        code = read_code(reply.content.config_records[ANSWER])
        if code is not Code.OK:
            return Answer(node, code)
        [array] = reply.content.array_records[UPDATE].values()
        return Answer(node, code, read_update(array.dtype, array.shape, array.stype, array.data, count))
    except (Malformed, KeyError, ValueError):
        return Answer(node, Code.MALFORMED)
