"""How good the released model is, on test data that no client holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models import build, load_flat
from ..privacy import Plan

BATCH = 1024


@dataclass(frozen=True)
class Quality:
    """Accuracy in 0..1 and mean cross-entropy in nats."""

    accuracy: float
    loss: float


Evaluate = Callable[[NDArray[np.float32]], Quality]


def make_evaluate(plan: Plan, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Evaluate:
    """Return the function from parameters, float32 [parameters], to quality on the given test records.

    `features` is float32 [records, *shape], `labels` int64 [records].
    """
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)

    def evaluate(parameters: NDArray[np.float32]) -> Quality:
        load_flat(model, parameters)
        with torch.inference_mode():
            logits = torch.cat([model(part) for part in x.split(BATCH)])
        loss = nn.functional.cross_entropy(logits, y)
        return Quality(float((logits.argmax(1) == y).double().mean()), float(loss))

    return evaluate
