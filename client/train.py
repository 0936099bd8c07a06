"""A device's part of a round: its records become a vector, by the unit, and then the mechanism's contribution."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import build, count_parameters, load_flat, objective_of, parts_of
from ..models.registry import Changed
from ..privacy import Clipped, Contribution, Keystream, Mechanism, Plan, PlanError, Update
from ..privacy.mechanisms.change_clip import clip_change
from ..privacy.mechanisms.local import Local
from ..privacy.sampling import poisson_sample
from .clipping.engine import Engine, make_engine
from .local_sgd import local_change, network_for
from .local_steps import LocalSteps
from .records import Precision, Records, precision_of, torch_device
from .trial import example, tried

log = logging.getLogger("bract.client")

FEW = 32
MOST, MOST_ON_GPU = 128, 256
"""The number of records in a pass of book-keeping is a multiple of FEW and at most MOST (MOST_ON_GPU on a GPU)."""


@dataclass(frozen=True, repr=False)
class Task:
    """One device's part of a round.

    `draw` returns the secret keystream of a purpose. `scale` multiplies the plan's clip norm if it adapts. `layers`
    are the secret seeds of the layers of noise, which the device may reveal when the dropouts are known.
    """

    mechanism: Mechanism
    parameters: NDArray[np.float32]
    records: Records
    draw: Callable[..., Keystream]
    round: int = 1
    scale: float = 1.0
    layers: Sequence[bytes] = ()

    @property
    def plan(self) -> Plan:
        """The mechanism's plan."""
        return self.mechanism.plan


MOST_PARAMETERS = 10**8
"""The most parameters of a network that a device builds. The limit is here because the server sends the plan."""

DEVIATIONS = 4.0
"""The room for a sample, in standard deviations above the mean size. Fewer than one sample in three thousand exceeds
this room, and such a sample takes one more pass."""


def try_training(plan: Plan) -> int:
    """Return the network's number of parameters, after a trial: build network and engine, and compute one sum.

    The trial uses made-up records and reads no record. It runs once for plans with the same network and engine.

    Raises:
        PlanError: this machine cannot train the plan, or the plan gives a wrong number of parameters.
    """
    _check_size(plan)
    model = engine_for(plan).model if plan.privacy.unit == "record" else network_for(plan)
    count, said = sum(p.numel() for p in model.parameters()), plan.model.parameters
    if said not in (None, count):
        raise PlanError(f"model.parameters is {said}, {plan.model.name} has {count}", "leave model.parameters out")
    return count


def _check_size(plan: Plan) -> None:
    """Refuse a network that is too large for a device, before memory is allocated for it."""
    data, name = plan.data, plan.model.name
    with tried(name):
        count = count_parameters(name, data.shape, data.classes)  # the frozen ones take memory too
        if plan.model.kept_start:
            count += count_parameters(name, data.shape, data.classes, plan.model.kept_start)
    if count > MOST_PARAMETERS:
        raise PlanError(
            f"{name} has {count} parameters, a device builds at most {MOST_PARAMETERS}", "choose a smaller network"
        )


def engine_for(plan: Plan) -> Engine:
    """Return the engine for the plan's network and clip norm, tried on made-up records and cached between rounds.

    Raises:
        PlanError: no engine can train the network.
    """
    data, training, device = plan.data, plan.training, torch_device()
    model = plan.model.name, data.shape, data.classes, plan.model.kept_start
    return _engine(*model, plan.safe_clip_norm, training.engine, rows_of(plan, device), precision_of(plan, device))


def most_sampled(expected: float, rate: float) -> int:
    """Return a size that a Poisson sample at `rate` with mean size `expected` hardly ever exceeds."""
    return math.ceil(expected + DEVIATIONS * math.sqrt(expected * (1 - rate)))


def rows_of(plan: Plan, device: torch.device) -> int:
    """Return the number of records in a pass, public, from the size of a device's expected sample."""
    devices = 1 if plan.privacy.noise == "local" else plan.cohort.size
    most = most_sampled(plan.training.batch_size / devices, plan.privacy.sampling_rate)
    passes = math.ceil(most / (MOST_ON_GPU if device.type == "cuda" else MOST))
    return math.ceil(most / passes / FEW) * FEW


def passes_of(plan: Plan, records: int, rows: int) -> int:
    """Return the number of passes, at least one, for a sum over a sample of a device with `records` records.

    It depends on the plan and on the number of records, not on the sample or on any record's value.
    """
    rate = plan.privacy.sampling_rate
    return max(1, math.ceil(most_sampled(rate * records, rate) / rows))


@lru_cache(maxsize=2)
def _engine(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    start: Changed,
    clip_norm: float,
    engine: Literal["auto", "opacus"],
    rows: int,
    precision: Precision,
) -> Engine:
    with tried(name):
        fixed, trained = parts_of(build(name, shape, classes, start=start).to(torch_device()))
        made = make_engine(trained, clip_norm, objective_of(name, shape).loss, engine, rows, precision)
        made.rehearse(example(name, shape, classes, torch_device(), fixed))
    return made


def sampled_sum(task: Task, parameters: NDArray[np.float32], step: int) -> Clipped:
    """Return the clipped gradient sum over a fresh Poisson sample of the records, at the given parameters.

    Blanks are sampled too, and count as zero. A record whose pass fails counts as zero; the owner's log names it.
    """
    engine, records, rate = engine_for(task.plan), task.records, task.plan.privacy.sampling_rate
    load_flat(engine.model, parameters)
    chosen = poisson_sample(task.draw("sample", step), rate, len(records))
    passes = max(passes_of(task.plan, len(records), engine.rows), math.ceil(chosen.sum() / engine.rows))

    def faulty(place: int, fault: Exception) -> None:
        which = np.flatnonzero(chosen if records.fits is None else chosen & records.fits)[place]
        log.warning("record %d of the data counts for nothing: its pass failed", which, exc_info=fault)

    return Clipped(engine.clipped_sum(records.select(chosen), passes, faulty))


def gradients(task: Task) -> Update | Clipped:
    """Return a record-level plan's vector: the device's part of one pooled gradient sum, clipped and sampled.

    With local noise it is the change of the model after the plan's noised steps.

    Raises:
        ValueError: the mechanism neither sums gradients nor is `Local`.
    """
    mechanism = task.mechanism
    if mechanism.sums_gradients:
        return sampled_sum(task, task.parameters, 0)
    if not isinstance(mechanism, Local):
        raise ValueError("local steps without local noise")
    return noised_steps(task, mechanism)


@np.errstate(over="ignore", invalid="ignore")
def noised_steps(task: Task, mechanism: Local) -> Update:
    """Return the change of the parameters after the plan's steps of DP-SGD on the device.

    Guarantee: every step is a Poisson-sampled Gaussian mechanism; the rest is post-processing.
    Reference: Abadi et al. 2016, algorithm 1.
    """
    training = task.plan.training
    steps = LocalSteps(training, task.parameters)
    for step, noise in enumerate(mechanism.noise(len(task.parameters), training.local_steps, task.draw)):
        noised = mechanism.noised(sampled_sum(task, steps.parameters.astype(np.float32), step), noise)
        steps.step(noised / training.batch_size)
    return Update(steps.parameters - task.parameters)


def clipped_change(task: Task) -> Clipped:
    """Return a client-level plan's vector: the model's change after plain training, scaled and clipped as a whole.

    Reference: McMahan et al. 2018, DP-FedAvg.
    """
    change = local_change(task.plan, task.parameters, task.records, task.draw)
    return clip_change(Update(change.vector / task.scale), task.plan)


VECTORS: dict[str, Callable[[Task], Update | Clipped]] = {"record": gradients, "client": clipped_change}
"""The function that returns a device's vector, for each unit that a plan can protect."""


def contribution(task: Task) -> Contribution:
    """Return what the device adds to the round's sum: the mechanism's contribution of the device's vector."""
    vector = VECTORS[task.plan.privacy.unit](task)
    return task.mechanism.contribute(vector, task.round, task.draw, task.layers)
