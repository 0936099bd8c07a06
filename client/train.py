"""What a device does in a round, one function for each cell of unit times place of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import build, load_flat, objective_of
from ..privacy import Clipped, Keystream, Plan, Update
from ..privacy.quantize import dequantize
from .engines import Engine, make_engine
from .protect import add_made, add_noise, add_share, clip_and_tell, noises, protect
from .records import Precision, Records, precision_of, torch_device
from .updates import local_change

FEW = 32
MOST, MOST_ON_GPU = 128, 256
"""Records that book-keeping takes at a time: as many as a device is expected to sample, up to the most: on a CPU few,
twice or four times as many; on a GPU, which is slow to start and quick to work, a multiple of few."""


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


def engine_for(plan: Plan) -> Engine:
    """Return the engine for the plan's network and clip norm, kept from round to round."""
    data, training, device = plan.data, plan.training, torch_device()
    model = plan.model.name, data.shape, data.classes
    return _engine(*model, plan.safe_clip_norm, training.engine, rows_of(plan, device), precision_of(plan, device))


def rows_of(plan: Plan, device: torch.device) -> int:
    """Return how many records to take at a time, public: by how many a device is expected to sample."""
    devices = 1 if plan.privacy.noise == "local" else plan.cohort.size
    expected = math.ceil(plan.training.batch_size / devices)
    if device.type == "cuda":
        return min(-(-expected // FEW) * FEW, MOST_ON_GPU)
    return next((rows for rows in (FEW, 2 * FEW) if expected <= rows), MOST)


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
    model = build(name, shape, classes).to(torch_device())
    return make_engine(model, clip_norm, objective_of(name, shape).loss, engine, rows, precision)


def sampled_sum(task: Task, parameters: NDArray[np.float32], step: int) -> Update:
    """Return the clipped gradient sum over a fresh Poisson sample of the records, at the given parameters."""
    engine = engine_for(task.plan)
    load_flat(engine.model, parameters)
    chosen = task.draw("sample", step).sample(task.plan.privacy.sampling_rate, len(task.records))
    return Update(engine.clipped_sum(task.records.select(chosen)))


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
