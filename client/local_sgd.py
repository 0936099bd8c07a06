"""Local SGD on a device, without clipping or noise. Client-level plans clip the whole change and add noise to it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, reduce
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models import build, load_flat, objective_of, parts_of
from ..models.objectives import Loss
from ..models.registry import Changed
from ..privacy import Keystream, Plan, Update
from ..privacy.sampling import permutation
from .clipping.determinism import fresh_randomness
from .local_steps import LocalSteps
from .records import Precision, Records, precision_of, torch_device
from .trial import ROWS, example, tried

log = logging.getLogger("bract.client")

MOST, MOST_ON_GPU = 128, 256
"""The most records in one pass of plain training."""


@np.errstate(over="ignore", invalid="ignore")
def local_change(
    plan: Plan, parameters: NDArray[np.float32], records: Records, draw: Callable[..., Keystream]
) -> Update:
    """Return the change of the parameters after the plan's local steps, float64 [parameters], unclipped.

    Each step averages over the next `batch_size` records, without blanks; the records are shuffled again after each
    epoch. Without records, the change is zero. The numbers of steps, passes and rows depend only on the number of
    records, not on their values. If a pass fails, the whole change is zero.

    Reference: McMahan et al. 2017, algorithm 1.
    """
    training, steps, sound = plan.training, LocalSteps(plan.training, parameters), True
    load_flat(network_for(plan), parameters)  # raises for a vector of another length, which is not a record's fault
    rows, passes = _rows_and_passes(training.batch_size, len(records), records.labels.device)
    with fresh_randomness(records.labels.device):
        for batch in islice(_batches(records, training.batch_size, draw), training.local_steps):
            try:
                weights = steps.parameters.astype(np.float32)
                gradient = gradient_sum(plan, weights, batch, rows, passes) / max(1, len(batch))
            except Exception as fault:
                log.warning("the change of the model counts as zero: a pass failed", exc_info=fault)
                sound = False
            else:
                steps.step(gradient)
    return Update(steps.parameters - parameters if sound else np.zeros(len(parameters)))


def _rows_and_passes(size: int, records: int, device: torch.device) -> tuple[int, int]:
    """Return the rows of a pass and the passes of a step, from the plan's batch size and the number of records."""
    rows = min(size, MOST_ON_GPU if device.type == "cuda" else MOST)
    return rows, max(1, math.ceil(min(size, records) / rows))


def _batches(records: Records, size: int, draw: Callable[..., Keystream]) -> Iterator[Records]:
    """Yield batches forever; without records, they are empty."""
    epoch = 0
    while True:
        order = permutation(draw("order", epoch), len(records))
        for start in range(0, max(1, len(order)), size):
            chosen = order[start : start + size]
            real = torch.from_numpy(chosen if records.fits is None else chosen[records.fits[chosen]])
            real = real.to(records.labels.device)
            yield Records(records.features[real], records.labels[real])
        epoch += 1


def gradient_sum(
    plan: Plan, parameters: NDArray[np.float32], batch: Records, rows: int = 0, passes: int = 1
) -> NDArray[np.float64]:
    """Return the sum over the batch of the gradients of the loss at `parameters`, float64 [parameters].

    It is zero for parameters that are frozen or not used. Each pass takes `rows` records, padded with blanks, and
    there are at least `passes` passes. If `rows` is 0, one pass takes the whole batch.
    """
    model = network_for(plan)
    load_flat(model, parameters)
    rows = rows or max(1, len(batch))
    loss, narrow = objective_of(plan.model.name, plan.data.shape).loss, precision_of(plan, batch.labels.device)
    sums = (_pass(model, loss, part, rows, narrow) for part in batch.chunks(rows, passes))
    return reduce(np.add, sums)


def _pass(model: nn.Module, loss: Loss, part: Records, rows: int, precision: Precision) -> NDArray[np.float64]:
    weights, filled = list(model.parameters()), part.filled(rows)
    with torch.autocast(part.labels.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        losses = loss(model(filled.features), filled.labels)
    trained = [p for p in weights if p.requires_grad]
    gradients = torch.autograd.grad(losses[: len(part)].sum(), trained, allow_unused=True)
    found = dict(zip(trained, gradients, strict=True))
    each = [torch.zeros_like(p) if (g := found.get(p)) is None else g for p in weights]
    return torch.cat([g.flatten() for g in each]).cpu().numpy().astype(np.float64)


def network_for(plan: Plan) -> nn.Module:
    """Return the trained part of the plan's network, cached after a trial on made-up records.

    Raises:
        PlanError: the network cannot be trained.
    """
    device = torch_device()
    model = plan.model
    return _network(model.name, plan.data.shape, plan.data.classes, model.kept_start, precision_of(plan, device))


@lru_cache(maxsize=2)
def _network(name: str, shape: tuple[int, ...], classes: int, start: Changed, precision: Precision) -> nn.Module:
    device = torch_device()
    with tried(name), fresh_randomness(device):
        fixed, trained = parts_of(build(name, shape, classes, start=start).to(device))
        _pass(trained, objective_of(name, shape).loss, example(name, shape, classes, device, fixed), ROWS, precision)
    return trained
