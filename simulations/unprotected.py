"""Training that protects nobody, to compare with: the cells of `unit = "none"`. No deployment can reach it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..client.local_sgd import gradient_sum
from ..client.protect import protect
from ..client.train import MECHANISMS, Mechanism, Task
from ..privacy import Clipped, Keystream, Plan, Release, Sum, Update
from ..privacy.encoding.quantization import dequantize
from ..server.release import RELEASES, Releaser, release_local


def plain_step(task: Task) -> Clipped:
    """Return the plain gradient sum over a Poisson sample: as `central_step`, unclipped."""
    return protect(Update(_sampled_sum(task, task.parameters, 0)), task.plan)


def plain_steps(task: Task) -> Clipped:
    """Return the change after local SGD steps: as `local_steps`, unclipped and without noise."""
    training = task.plan.training
    parameters = task.parameters.astype(np.float64)
    for step in range(training.local_steps):
        gradient_sum = _sampled_sum(task, parameters.astype(np.float32), step)
        parameters -= training.learning_rate * gradient_sum / training.batch_size
    return protect(Update(parameters - task.parameters), task.plan)


def release_plain(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the model's change for one pooled SGD step: as `release_central`, without noise."""
    del noise, round
    gradient = dequantize(total.vector, plan.grid_step) / plan.training.batch_size
    return Release(-plan.training.learning_rate * gradient)


OPEN_MECHANISMS: Mapping[tuple[str, str], Mechanism] = {
    **MECHANISMS,
    ("none", "central"): plain_step,
    ("none", "distributed"): plain_step,
    ("none", "local"): plain_steps,
}
OPEN_RELEASES: Mapping[tuple[str, str], Releaser] = {
    **RELEASES,
    ("none", "central"): release_plain,
    ("none", "distributed"): release_plain,
    ("none", "local"): release_local,
}


def _sampled_sum(task: Task, parameters: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    chosen = task.draw("sample", step).sample(task.plan.privacy.sampling_rate, len(task.records))
    return gradient_sum(task.plan, parameters, task.records.select(chosen))
