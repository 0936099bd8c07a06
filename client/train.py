"""What a device does in a round, one function for each cell of unit times place of noise."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import build, count_parameters, load_flat, objective_of
from ..privacy import Clipped, Keystream, Plan, PlanError, Update
from ..privacy.encoding.quantization import dequantize
from .clipping.engine import Engine, make_engine
from .local_sgd import local_change, network_for
from .protect import add_made, add_noise, add_share, clip_and_tell, noises, protect
from .records import Precision, Records, precision_of, torch_device
from .trial import example, tried

log = logging.getLogger("bract.client")

FEW = 32
MOST, MOST_ON_GPU = 128, 256
"""Records that book-keeping takes at a time are a multiple of few, up to the most."""


@dataclass(frozen=True, repr=False)
class Task:
    """One device's part of a round. `draw` gives the secret keystream of a purpose; `scale` is that of the clip.

    `layers` are the seeds, secret, of the layers of its noise that it may give up once it is known who dropped out.
    """

    plan: Plan
    parameters: NDArray[np.float32]
    records: Records
    draw: Callable[..., Keystream]
    round: int = 1
    scale: float = 1.0
    layers: Sequence[bytes] = ()


Mechanism = Callable[[Task], Clipped]


LARGEST = 10**8
"""The most parameters of a network that a device builds: a plan comes from the server."""

DEVIATIONS = 4.0
"""How many standard deviations above its mean a sample is made room for. A larger one, which fewer than one in three
thousand are, takes a pass more."""


def try_training(plan: Plan) -> int:
    """Try all of a training that can fail on made-up records: build the network, its engine, and make one sum.

    Return how many parameters the network has. The trial is made once for plans alike in this, and sees no record.

    Raises:
        PlanError: this machine cannot train the plan, or the plan is mistaken in the number of its parameters.
    """
    _check_size(plan)
    model = engine_for(plan).model if plan.privacy.unit == "record" else network_for(plan)
    count, said = sum(p.numel() for p in model.parameters()), plan.model.parameters
    if said not in (None, count):
        raise PlanError(f"model.parameters is {said}, {plan.model.name} has {count}", "leave model.parameters out")
    return count


def _check_size(plan: Plan) -> None:
    """Refuse a network that would take a device's memory, before any is taken for it."""
    data, name = plan.data, plan.model.name
    with tried(name):
        count = count_parameters(name, data.shape, data.classes)
    if count > LARGEST:
        raise PlanError(
            f"{name} has {count} parameters, a device builds at most {LARGEST}", "choose a smaller network"
        )


def engine_for(plan: Plan) -> Engine:
    """Return the engine for the plan's network and clip norm, tried on made-up records, kept from round to round.

    Raises:
        PlanError: there is none.
    """
    data, training, device = plan.data, plan.training, torch_device()
    model = plan.model.name, data.shape, data.classes
    return _engine(*model, plan.safe_clip_norm, training.engine, rows_of(plan, device), precision_of(plan, device))


def most_sampled(expected: float, rate: float) -> int:
    """Return the size that a Poisson sample at `rate` hardly ever passes, if its mean is `expected`."""
    return math.ceil(expected + DEVIATIONS * math.sqrt(expected * (1 - rate)))


def rows_of(plan: Plan, device: torch.device) -> int:
    """Return how many records to take at a time, public: room for what a device is expected to sample."""
    devices = 1 if plan.privacy.noise == "local" else plan.cohort.size
    most = most_sampled(plan.training.batch_size / devices, plan.privacy.sampling_rate)
    passes = math.ceil(most / (MOST_ON_GPU if device.type == "cuda" else MOST))
    return math.ceil(most / passes / FEW) * FEW


def passes_of(plan: Plan, records: int, rows: int) -> int:
    """Return through how many passes a device with so many records sums its samples, at least one.

    It follows from the plan and the size of the device's file, not from what was sampled nor from what any record is.
    """
    rate = plan.privacy.sampling_rate
    return max(1, math.ceil(most_sampled(rate * records, rate) / rows))


@lru_cache(maxsize=2)
def _engine(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    clip_norm: float,
    engine: Literal["auto", "opacus"],
    rows: int,
    precision: Precision,
) -> Engine:
    with tried(name):
        model = build(name, shape, classes).to(torch_device())
        made = make_engine(model, clip_norm, objective_of(name, shape).loss, engine, rows, precision)
        made.rehearse(example(name, shape, classes, torch_device()))
    return made


def sampled_sum(task: Task, parameters: NDArray[np.float32], step: int) -> Update:
    """Return the clipped gradient sum over a fresh Poisson sample of the records, at the given parameters.

    Blanks are sampled too, and count for nothing. A record whose pass fails counts as zero; the owner's log names it.
    """
    engine, records, rate = engine_for(task.plan), task.records, task.plan.privacy.sampling_rate
    load_flat(engine.model, parameters)
    chosen = task.draw("sample", step).sample(rate, len(records))
    passes = max(passes_of(task.plan, len(records), engine.rows), math.ceil(chosen.sum() / engine.rows))

    def faulty(place: int, fault: Exception) -> None:
        which = np.flatnonzero(chosen if records.fits is None else chosen & records.fits)[place]
        log.warning("record %d of the data counts for nothing: its pass failed", which, exc_info=fault)

    return Update(engine.clipped_sum(records.select(chosen), passes, faulty))


def central_step(task: Task) -> Clipped:
    """Return the device's share of one pooled DP-SGD step; the server adds the noise to the sum of all shares."""
    return protect(sampled_sum(task, task.parameters, 0), task.plan)


def shared_step(task: Task) -> Clipped:
    """Return the device's share of one pooled DP-SGD step, with its share of the noise in it."""
    gradient_sum = sampled_sum(task, task.parameters, 0)
    return add_share(gradient_sum, task.plan, task.round, task.draw("noise", 0), task.layers)


@np.errstate(over="ignore", invalid="ignore")
def local_steps(task: Task) -> Clipped:
    """Return the change of the parameters after the plan's steps of DP-SGD on the device, on the sums' grid.

    Guarantee: every step is a Poisson-sampled Gaussian; what follows is post-processing.
    Reference: Abadi et al. 2016, algorithm 1.
    """
    training = task.plan.training
    parameters = task.parameters.astype(np.float64)
    for step, noise in enumerate(noises(task.plan, len(parameters), training.local_steps, task.draw)):
        noised = add_made(sampled_sum(task, parameters.astype(np.float32), step), task.plan, noise)
        gradient = dequantize(noised.vector, task.plan.noise_step) / training.batch_size
        parameters -= training.learning_rate * gradient
    return protect(Update(parameters - task.parameters), task.plan)


def clipped_change(task: Task) -> Update:
    """Return the change of the parameters after the device's plain training, scaled down and clipped as a whole."""
    change = local_change(task.plan, task.parameters, task.records, task.draw)
    return clip_and_tell(Update(change.vector / task.scale), task.plan)


def central_change(task: Task) -> Clipped:
    """Return the device's clipped change; the server adds the noise to the sum of all.

    Reference: McMahan et al. 2018, DP-FedAvg.
    """
    return protect(clipped_change(task), task.plan)


def shared_change(task: Task) -> Clipped:
    """Return the device's clipped change with its share of the noise: DP-FedAvg without a trusted server."""
    return add_share(clipped_change(task), task.plan, task.round, task.draw("noise", 0), task.layers)


def local_noised_change(task: Task) -> Clipped:
    """Return the device's clipped change with noise of its own, which protects it from everyone."""
    plan = task.plan
    noised = add_noise(clipped_change(task), plan, task.draw("noise", 0))
    return protect(Update(dequantize(noised.vector, plan.noise_step)), plan)


MECHANISMS: Mapping[tuple[str, str], Mechanism] = {
    ("record", "central"): central_step,
    ("record", "distributed"): shared_step,
    ("record", "local"): local_steps,
    ("client", "central"): central_change,
    ("client", "distributed"): shared_change,
    ("client", "local"): local_noised_change,
}
"""The cells of unit times place of noise that a device can train in."""
