"""The clipped sum by plain autograd, one record at a time, and the comparison of a layer's rule with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.records import Records
from bract.models.objectives import Loss, cross_entropy

CASES = [(torch.float32, 1e-5, 0.3), (torch.float64, 1e-10, 0.3), (torch.float64, 1e-10, 1e6)]
"""Dtypes, relative tolerances and clip norms of `check_layer`: under the first two gradients are clipped."""


def record_gradients(model: nn.Module, records: Records, loss: Loss = cross_entropy) -> np.ndarray:
    """Every record's own gradient, float64 [records, parameters]; parameters not trained or not used have zeros."""
    pairs = zip(records.features, records.labels, strict=True)
    return np.array([_gradient(model, loss, x, y) for x, y in pairs])


def looped_sum(model: nn.Module, records: Records, clip: float, loss: Loss = cross_entropy) -> np.ndarray:
    """The sum of the clipped gradients, float64 [parameters]."""
    gradients = record_gradients(model, records, loss)
    norms = np.linalg.norm(gradients, axis=1)
    return np.minimum(1.0, clip / (norms + 1e-6)) @ gradients


def _gradient(model: nn.Module, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    parts = []
    trained = [p for p in model.parameters() if p.requires_grad]
    found = iter(torch.autograd.grad(loss(model(x[None]), y[None])[0], trained, allow_unused=True))
    for p in model.parameters():
        gradient = next(found) if p.requires_grad else None
        parts.append(torch.zeros_like(p).flatten() if gradient is None else gradient.flatten())
    return torch.cat(parts).double().numpy()


def uneven(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss for outputs of any shape, under which every output has a gradient of its own."""
    sizes = torch.linspace(0.5, 1.5, outputs[0].numel(), dtype=outputs.dtype)
    return (torch.sin(outputs.flatten(1)) * sizes).sum(1) * (1 + labels)


class Wrap(nn.Module):
    """A layer before an elementwise function, so that it is not the first that gradients reach."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).tanh()


def check_layer(layer: nn.Module, features: torch.Tensor, loss: Any = uneven) -> None:
    """Assert that sums over features [records, ...], clipped and not, are those of a loop over single records."""
    for dtype, tolerance, clip in CASES:
        model = Wrap(layer).to(dtype)
        inputs = features.to(dtype) if features.is_floating_point() else features
        records = Records(inputs, torch.arange(len(inputs)) % 3)
        expected = looped_sum(model, records, clip, loss)
        largest = max(float(np.linalg.norm(looped_sum(model, one, clip, loss))) for one in records.chunks(1))
        found = BookKeepingEngine(model, clip, loss, rows=4).clipped_sum(records)
        assert np.linalg.norm(found - expected) <= tolerance * len(records) * largest
        assert largest > 0


def normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Normal numbers that follow from the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
