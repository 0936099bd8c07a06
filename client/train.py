"""What a device does in a round, one function for each place of noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import build, load_flat
from ..privacy import Clipped, Keystream, Plan, Update
from ..privacy.quantize import dequantize
from .gradients import OpacusEngine
from .protect import add_noise, protect
from .records import Records


@dataclass(frozen=True, repr=False)
class Task:
    """One device's part of a round. `draw` gives the secret keystream of a purpose."""

    plan: Plan
    parameters: NDArray[np.float32]
    records: Records
    draw: Callable[..., Keystream]


Mechanism = Callable[[Task], Clipped]


def torch_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def engine_for(plan: Plan) -> OpacusEngine:
    """Return the engine for the plan's network and clip norm, kept from round to round."""
    return _engine(plan.model.name, plan.data.shape, plan.data.classes, plan.record_clip_norm)


@lru_cache(maxsize=2)
def _engine(name: str, shape: tuple[int, ...], classes: int, clip_norm: float) -> OpacusEngine:
    return OpacusEngine(build(name, shape, classes).to(torch_device()), clip_norm)


def sampled_sum(task: Task, parameters: NDArray[np.float32], step: int) -> Update:
    """Return the clipped gradient sum over a fresh Poisson sample of the records, at the given parameters."""
    engine = engine_for(task.plan)
    load_flat(engine.model, parameters)
    chosen = task.draw("sample", step).sample(task.plan.privacy.sampling_rate, len(task.records))
    return Update(engine.clipped_sum(task.records.select(chosen)))


def central_step(task: Task) -> Clipped:
    """Return the device's share of one pooled DP-SGD step; the server adds the noise to the sum of all shares."""
    return protect(sampled_sum(task, task.parameters, 0), task.plan)


def local_steps(task: Task) -> Clipped:
    """Return the change of the parameters after the plan's steps of DP-SGD on the device, on the sums' grid.

    Guarantee: every step is a Poisson-sampled Gaussian; what follows is post-processing.
    Reference: Abadi et al. 2016, algorithm 1.
    """
    training = task.plan.training
    parameters = task.parameters.astype(np.float64)
    for step in range(training.local_steps):
        gradient_sum = sampled_sum(task, parameters.astype(np.float32), step)
        noised = add_noise(gradient_sum, task.plan, task.draw("noise", step))
        gradient = dequantize(noised.vector, task.plan.noise_step) / training.batch_size
        parameters -= training.learning_rate * gradient
    return protect(Update(parameters - task.parameters), task.plan)


MECHANISMS: Mapping[tuple[str, str], Mechanism] = {
    ("record", "central"): central_step,
    ("record", "local"): local_steps,
}
"""The cells of unit times place of noise that a device can train in."""
