"""A sequence run in another order gives the same gradients."""

from __future__ import annotations

import pytest
import torch
from by_autograd import check_layer
from torch import nn


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True)])
def test_pooling_before_relu_has_the_same_gradient(pool: nn.Module, inplace: bool) -> None:
    """Also at ties: features are whole numbers, so that windows hold some."""
    torch.manual_seed(0)
    features = torch.randint(-1, 2, (6, 2, 9, 7)).float()  # flat patches, so that windows hold ties
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(inplace), pool, nn.Conv2d(3, 2, 2), nn.ReLU(inplace))
    check_layer(model, features)
