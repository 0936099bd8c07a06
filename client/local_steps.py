"""The steps of a device that trains on its own: the rule by which a gradient changes the parameters."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..privacy.plan.schema import Training


class LocalSteps:
    """A device's parameters, and the optimizer that its plan names. The optimizer starts anew in each round.

    A step first shrinks the parameters by `learning_rate * weight_decay` of themselves (Loshchilov and Hutter 2019).
    It adds to the gradient `proximal` times the way that the parameters have moved from the start, which keeps the
    device near the others (FedProx: Li et al. 2020, arXiv 1812.06127, equation 2). Then it takes the step of SGD,
    with momentum if there is one, or of Adam with torch's constants.

    A step depends only on the gradients and on public numbers. So if a device adds noise to its gradients, the steps
    are post-processing.
    """

    def __init__(self, training: Training, start: NDArray[np.float32]) -> None:
        self._training, self._start = training, start.astype(np.float64)
        self._weights = torch.from_numpy(self._start.copy())
        self._optimizer = _optimizer(training, self._weights)

    @property
    def parameters(self) -> NDArray[np.float64]:
        """The parameters after the steps so far, float64 [parameters]."""
        return self._weights.numpy()

    def step(self, gradient: NDArray[np.float64]) -> None:
        """Take a step with a gradient, float64 [parameters]."""
        t, weights = self._training, self._weights.numpy()
        if t.proximal:
            gradient = gradient + t.proximal * (weights - self._start)
        if t.weight_decay:
            weights *= 1 - t.learning_rate * t.weight_decay
        if self._optimizer is None:
            weights -= t.learning_rate * gradient
            return
        self._weights.grad = torch.from_numpy(gradient)
        self._optimizer.step()


def _optimizer(training: Training, weights: torch.Tensor) -> torch.optim.Optimizer | None:
    """Return torch's optimizer; None for plain SGD."""
    if training.optimizer == "adam":
        return torch.optim.Adam([weights], lr=training.learning_rate)
    if training.momentum:
        return torch.optim.SGD([weights], lr=training.learning_rate, momentum=training.momentum)
    return None
