"""How good the released model is, on test data that no client holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models import build, load_flat
from ..privacy import Plan
from ..privacy.arrays import Features

BATCH = 1024
"""Labels told at a time."""


@dataclass(frozen=True)
class Quality:
    """Accuracy in 0..1 and mean cross-entropy in nats."""

    accuracy: float
    loss: float


Evaluate = Callable[[NDArray[np.float32]], Quality]


def make_evaluate(plan: Plan, features: Features, labels: NDArray[np.int64]) -> Evaluate:
    """Return the function from parameters, float32 [parameters], to quality on the given test records.

    `features` is float32 [records, *shape], `labels` int64 [records]; of tokens both are int64 [records, T], and
    accuracy and loss are means over all places.
    """
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    size = max(1, BATCH // math.prod(labels.shape[1:]))

    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        right, loss = 0, 0.0
        with torch.inference_mode():
            for part, told in zip(x.split(size), y.split(size), strict=True):
                logits = model(part).movedim(-1, 1)
                right += int((logits.argmax(1) == told).sum())
                loss += float(nn.functional.cross_entropy(logits, told, reduction="sum"))
        return Quality(right / y.numel(), loss / y.numel())

    return evaluate
