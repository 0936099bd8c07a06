"""The server optimizer: a step of a torch.optim class on the pseudo-gradient (Reddi et al. 2021, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ..privacy import Plan, Release

Tensors = Mapping[str, NDArray[np.float32]]


def step(
    plan: Plan, parameters: NDArray[np.float32], optimizer: Tensors, release: Release, round: int = 1
) -> tuple[NDArray[np.float32], Tensors]:
    """Return parameters and optimizer tensors after the step of `round`, counted from 1, on the negative release.

    The inputs are unchanged. The plan's schedule gives the learning rate. Before the step the parameters shrink
    by `rate * weight_decay` of themselves (Loshchilov and Hutter 2019).

    It accepts only a `Release`, so no sum without noise and charge can reach the model. The caller must check that
    the parameters are finite.
    """
    weights, rate = torch.from_numpy(parameters.copy()), plan.server.learning_rate * rate_factor(plan, round)
    stepper = _optimizer(plan, weights, rate)
    if plan.server.weight_decay:
        weights *= 1 - rate * plan.server.weight_decay
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


def rate_factor(plan: Plan, round: int) -> float:
    """Return the part of the learning rate that the schedule leaves in `round`, counted from 1.

    It rises over the warmup, then falls to zero after the last round: by half a cosine (Loshchilov and Hutter 2017)
    or on a line.
    """
    warmup, rounds = plan.server.warmup or 0, plan.cohort.rounds
    if round <= warmup:
        return round / warmup
    past = (round - 1 - warmup) / max(1, rounds - warmup)
    match plan.server.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * past)) / 2
        case "linear":
            return 1 - past
        case None:
            return 1.0


def _optimizer(plan: Plan, weights: torch.Tensor, rate: float) -> torch.optim.Optimizer:
    server = plan.server
    match server.optimizer:
        case "sgd":
            return torch.optim.SGD([weights], lr=rate, momentum=server.momentum)
        case "adam":
            return torch.optim.Adam([weights], lr=rate)
