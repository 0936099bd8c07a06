"""The server optimizer: a step of a torch.optim class on the pseudo-gradient (Reddi et al. 2021, algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ..privacy import Plan, Release

Tensors = Mapping[str, NDArray[np.float32]]


def step(
    plan: Plan, parameters: NDArray[np.float32], optimizer: Tensors, release: Release
) -> tuple[NDArray[np.float32], Tensors]:
    """Return new parameters and optimizer tensors after one step on minus the release; the inputs are unchanged.

    It accepts only a `Release`, so no sum without noise and charge can reach the model. The caller must check that
    the parameters are finite.
    """
    weights = torch.from_numpy(parameters.copy())
    stepper = _optimizer(plan, weights)
    if optimizer:
        stepper.state[weights] = {name: torch.from_numpy(value.copy()) for name, value in optimizer.items()}
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which the caller detects
        weights.grad = torch.from_numpy(-release.vector.astype(np.float32))
    stepper.step()
    tensors = {n: t.numpy().copy() for n, t in stepper.state[weights].items() if isinstance(t, torch.Tensor)}
    return weights.numpy().copy(), tensors


def average(plan: Plan, round: int, before: NDArray[np.float32], stepped: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the running average of the stepped parameters, float32 [parameters], after `round` rounds.

    The weight of `before` is at most (1 + round) / (10 + round), so it is smaller in early rounds.
    """
    keep = min(plan.server.averaging, (1 + round) / (10 + round))
    return (keep * before.astype(np.float64) + (1 - keep) * stepped).astype(np.float32)


def _optimizer(plan: Plan, weights: torch.Tensor) -> torch.optim.Optimizer:
    server = plan.server
    match server.optimizer:
        case "sgd":
            return torch.optim.SGD([weights], lr=server.learning_rate, momentum=server.momentum)
        case "adam":
            return torch.optim.Adam([weights], lr=server.learning_rate)
