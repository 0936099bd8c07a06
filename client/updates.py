"""A device's plain training, without clip or noise: what a plan with clients as units clips and noises as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models import build, load_flat, objective_of
from ..privacy import Keystream, Plan, Update
from .records import Records, precision_of, torch_device


@np.errstate(over="ignore", invalid="ignore")
def local_change(
    plan: Plan, parameters: NDArray[np.float32], records: Records, draw: Callable[..., Keystream]
) -> Update:
    """Return the change of the parameters after the plan's local steps of SGD, float64 [parameters], of any size.

    Each step averages over the next `batch_size` records of the device's, shuffled anew when all were seen; without
    records nothing changes.

    Reference: McMahan et al. 2017, algorithm 1.
    """
    training, moved = plan.training, parameters.astype(np.float64)
    if len(records):
        for batch in islice(_batches(records, training.batch_size, draw), training.local_steps):
            gradient = gradient_sum(plan, moved.astype(np.float32), batch) / len(batch)
            moved -= training.learning_rate * gradient
    return Update(moved - parameters)


def _batches(records: Records, size: int, draw: Callable[..., Keystream]) -> Iterator[Records]:
    epoch = 0
    while True:
        order = torch.from_numpy(draw("order", epoch).permutation(len(records))).to(records.labels.device)
        for chosen in order.split(size):
            yield Records(records.features[chosen], records.labels[chosen])
        epoch += 1


def gradient_sum(plan: Plan, parameters: NDArray[np.float32], batch: Records) -> NDArray[np.float64]:
    """Return the sum over the batch of the gradients of the loss at `parameters`, float64 [parameters].

    Parameters that are not trained have zeros.
    """
    model = _model(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, parameters)
    weights = list(model.parameters())
    if not len(batch):
        return np.zeros(sum(p.numel() for p in weights))
    device = batch.labels.device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision_of(plan, device) == "bfloat16"):
        losses = objective_of(plan.model.name, plan.data.shape).loss(model(batch.features), batch.labels)
    trained = [p for p in weights if p.requires_grad]
    found = dict(zip(trained, torch.autograd.grad(losses.sum(), trained), strict=True))
    return torch.cat([found.get(p, torch.zeros_like(p)).flatten() for p in weights]).cpu().numpy().astype(np.float64)


@lru_cache(maxsize=2)
def _model(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    return build(name, shape, classes).to(torch_device())
