"""What the tests of book-keeping share: the same sum by plain autograd, one record at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bract.client.records import Records
from bract.models.objectives import Loss, cross_entropy

Reference = Callable[..., np.ndarray]


def _gradient(model: nn.Module, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    parts = []
    trained = [p for p in model.parameters() if p.requires_grad]
    found = iter(torch.autograd.grad(loss(model(x[None]), y[None])[0], trained, allow_unused=True))
    for p in model.parameters():
        gradient = next(found) if p.requires_grad else None
        parts.append(torch.zeros_like(p).flatten() if gradient is None else gradient.flatten())
    return torch.cat(parts).double().numpy()


@pytest.fixture(scope="session")
def record_gradients() -> Reference:
    """Return a function of (model, records, loss) to every record's own gradient, float64 [records, parameters]."""

    def gradients(model: nn.Module, records: Records, loss: Loss = cross_entropy) -> np.ndarray:
        pairs = zip(records.features, records.labels, strict=True)
        return np.array([_gradient(model, loss, x, y) for x, y in pairs])

    return gradients


@pytest.fixture(scope="session")
def looped_sum(record_gradients: Reference) -> Reference:
    """Return a function of (model, records, clip, loss) to the sum of the clipped gradients, float64 [parameters]."""

    def clipped(model: nn.Module, records: Records, clip: float, loss: Loss = cross_entropy) -> np.ndarray:
        gradients = record_gradients(model, records, loss)
        norms = np.linalg.norm(gradients, axis=1)
        return np.minimum(1.0, clip / (norms + 1e-6)) @ gradients

    return clipped
