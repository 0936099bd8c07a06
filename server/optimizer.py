"""The server optimizer: a torch.optim class stepped on the pseudo-gradient (Reddi et al. 2021, algorithm 2)."""

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
    """Return new parameters and optimizer tensors after one step on minus the release. Nothing is changed in place.

    Takes nothing but a `Release`, so no sum that was not noised and paid for can reach the model. Parameters that are
    no longer finite are the caller's to refuse.
    """
    weights = torch.from_numpy(parameters.copy())
    stepper = _optimizer(plan, weights)
    if optimizer:
        stepper.state[weights] = {name: torch.from_numpy(value.copy()) for name, value in optimizer.items()}
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite: the caller finds it in the model
        weights.grad = torch.from_numpy(-release.vector.astype(np.float32))
    stepper.step()
    tensors = {n: t.numpy().copy() for n, t in stepper.state[weights].items() if isinstance(t, torch.Tensor)}
    return weights.numpy().copy(), tensors


def average(plan: Plan, round: int, before: NDArray[np.float32], stepped: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the running average of the stepped parameters, float32 [parameters], after `round` rounds.

    In early rounds, earlier parameters weigh less: the weight is at most (1 + round) / (10 + round).
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
