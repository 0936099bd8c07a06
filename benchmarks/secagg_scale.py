"""A masked round of 1100 devices, of which 110 drop out after they shared keys: exactness, time and memory.

The server is the real `SecureSum` on a LocalGrid, and the devices are the real ClientApp; only training is left out.
The round is in the middle of a run, so the keys of the next round are prepared with it. All devices run in turn in
one other process, so that their memory does not count as the server's. For each row the server runs in a new process.
Its memory is the process's peak (Linux' VmHWM, reset before the round) minus its memory at the start of the round
(libraries, plan, model). Seconds are the time of the whole round, in which the two processes wait for each other.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from _bars import Bar, arguments, options_of, show
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.step_journal import MemoryJournal
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy import Contribution, Plan, make_plan, mechanism_of
from bract.privacy.messages import TRAIN
from bract.privacy.secagg.identity import new_identity, roster_of
from bract.privacy.secagg.session import make_session
from bract.server.aggregation.base import DeviceLink, RoundInput
from bract.server.aggregation.secure import SecureSum
from bract.simulations.local_grid import FIRST_NODE, RUN_ID, LocalGrid, Work

WITHSTOOD = [(1 / 3, 0.3), (0.05, 0.1)]
"""The fractions of colluders and of dropouts that each plan withstands; the first pair is the default."""

GONE = 0.1
SPAWN = multiprocessing.get_context("spawn")


def make(devices: int, parameters: int, colluders: float, dropouts: float) -> Plan:
    """Return a plan that sums all devices in each of its two rounds, for a network of `parameters` parameters."""
    return make_plan(
        {
            "data": {"clients": devices, "shape": [parameters - 1], "classes": 1},
            "model": {"name": "linear"},
            "training": {"batch_size": 8},
            "cohort": {"rounds": 2, "size": devices},
            "privacy": {"noise": "local"},
            "aggregation": {"protocol": "secagg", "colluders": colluders, "dropouts": dropouts},
        },
        Plan,
    )


def vector(node: int, plan: Plan, dimension: int) -> NDArray[np.int64]:
    """Return a node's contribution to the sum."""
    bound = mechanism_of(plan).grid.bound
    return np.random.default_rng(node).integers(-bound, bound + 1, dimension)


def live(pipe: Connection, devices: int, dimension: int) -> None:
    """Run all devices: answer each message from the pipe, until it sends None."""
    logging.disable()
    torch.set_num_threads(1)
    records = Records(torch.zeros(0, dimension - 1), torch.zeros(0))
    nodes = range(FIRST_NODE, FIRST_NODE + devices)
    identities = {node: new_identity() for node in nodes}
    journals = {node: MemoryJournal() for node in nodes}
    contexts = {node: Context(RUN_ID, node, {}, RecordDict(), {}) for node in nodes}
    roster = roster_of(identities.values())

    def open_device(context: Context) -> Device:
        def train(task: Task) -> Contribution:
            return Contribution(vector(context.node_id, task.plan, dimension))

        who, journal = identities[context.node_id], journals[context.node_id]
        return Device(records, Terms(), contribute=train, identity=who, roster=roster, journal=journal)

    app = make_app(open_device)
    while message := pipe.recv():
        pipe.send(app(message, contexts[message.metadata.dst_node_id]))


@dataclass
class Away:
    """An executor that lets the devices in the other process answer. Devices in `gone` do not answer a training."""

    pipe: Connection
    gone: frozenset[int]
    waited: float = field(default=0.0)

    def __call__(self, app: ClientApp, work: Work) -> Iterator[Message]:
        """Yield each device's reply, in turn."""
        for message, _ in work:
            if message.metadata.message_type == TRAIN and message.metadata.dst_node_id in self.gone:
                yield Message(Error(0, "gone"), reply_to=message)
            else:
                began = time.perf_counter()
                self.pipe.send(message)
                reply = self.pipe.recv()
                self.waited += time.perf_counter() - began
                yield reply


def peak_bytes(back: bool = False) -> int:
    """Return the peak of this process's memory, in bytes, since the last reset; with `back`, reset it first."""
    if back:
        Path("/proc/self/clear_refs").write_text("5")
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def play(plan: Plan, dimension: int) -> dict[str, object]:
    """Return the row of one round."""
    torch.set_num_threads(1)
    devices = plan.cohort.size
    pipe, end = SPAWN.Pipe()
    process = SPAWN.Process(target=live, args=(end, devices, dimension), daemon=True)  # a failed round ends it too
    process.start()
    nodes = list(range(FIRST_NODE, FIRST_NODE + devices))
    away = Away(pipe, frozenset(np.random.default_rng(0).choice(nodes, int(GONE * devices), replace=False).tolist()))
    grid = LocalGrid(ClientApp(), devices, away)
    parameters = np.zeros(dimension, dtype=np.float32)
    server = SecureSum(DeviceLink(grid, mechanism_of(plan), lambda: None), RUN_ID, None)
    before, began = peak_bytes(back=True), time.perf_counter()
    collected = server.collect(RoundInput(1, parameters, lambda clients: None, lambda clients: nodes), nodes)
    seconds, peak = time.perf_counter() - began, peak_bytes()
    pipe.send(None)
    process.join()
    graph = make_session(plan, RUN_ID, 1).graph(devices)
    total = sum(vector(node, plan, dimension) for node in nodes if node not in away.gone)
    return {
        "withstands": f"{plan.aggregation.colluders:.2f}, {plan.aggregation.dropouts:.2f}",
        "graph": f"{graph.degree}, {graph.threshold}",
        "survivors": len(collected.survivors),
        "exact": bool(np.array_equal(collected.total.vector, total)),
        "seconds": seconds,
        "server s": seconds - away.waited,
        "server MB": (peak - before) / 1e6,
    }


def main() -> None:
    """Play a round of each plan. Its graph is printed as neighbours of a device, shares that open a secret."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--devices", type=int, default=1100)
    parser.add_argument("--parameters", type=float, default=1e5)
    options = options_of(parser, devices=20, parameters=1e3)
    parameters = int(options.parameters)
    plans = [make(options.devices, parameters, *shares) for shares in WITHSTOOD]
    with ProcessPoolExecutor(1, SPAWN, max_tasks_per_child=1) as fresh:
        rows = list(fresh.map(play, plans, [parameters] * len(plans)))
    wrong = sum(not row["exact"] for row in rows)
    bars = [Bar("server_memory_mb", max(row["server MB"] for row in rows), 200), Bar("sums_not_exact", wrong, 0)]
    show(rows, bars, options)


if __name__ == "__main__":
    main()
