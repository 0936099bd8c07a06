"""A network's trainable parameters as one vector, in the order of `parameters()`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def read_flat(model: nn.Module) -> NDArray[np.float32]:
    """Return a copy of the parameters, float32, shape [parameters]."""
    with torch.no_grad():
        return parameters_to_vector(model.parameters()).cpu().numpy().copy()


def load_flat(model: nn.Module, vector: NDArray[np.float32]) -> None:
    """Set the parameters from a vector, float32, shape [parameters].

    Raises:
        ValueError: the length of the vector is not the number of parameters.
    """
    count = sum(p.numel() for p in model.parameters())
    if vector.shape != (count,):
        raise ValueError(f"expected {count} parameters, got shape {list(vector.shape)}")
    device = next(model.parameters()).device
    with torch.no_grad():
        vector_to_parameters(torch.from_numpy(vector.copy()).to(device), model.parameters())
