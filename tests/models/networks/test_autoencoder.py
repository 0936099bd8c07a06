"""The autoencoder: its formula and its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bract.models.networks.autoencoder import autoencoder
from bract.models.objectives import RECONSTRUCTION


@pytest.mark.parametrize("shape", [(1, 4, 5), (10,), (2, 3)])
def test_it_is_four_matrix_products_with_relu_between(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = autoencoder(shape, 10).double(), torch.randn(3, *shape, dtype=torch.float64)
    p, values = [p.detach().numpy() for p in model.parameters()], x.numpy().reshape(3, -1)
    widths = [len(values[0])]
    for weight, bias in zip(p[::2], p[1::2], strict=True):
        values = values @ weight.T + bias
        widths.append(len(bias))
        values = np.maximum(values, 0) if len(widths) < 5 else values
    outputs = model(x)
    assert widths == [x[0].numel(), 128, 32, 128, x[0].numel()]
    assert outputs.shape == x.shape
    assert np.allclose(outputs.detach().numpy().reshape(3, -1), values, rtol=0, atol=1e-12)
    losses = RECONSTRUCTION.loss(outputs, x).detach().numpy()
    assert np.allclose(losses, ((values - x.numpy().reshape(3, -1)) ** 2).mean(1), rtol=0, atol=1e-12)


def test_it_learns_records_that_lie_on_a_plane() -> None:
    """The best that 32 numbers could do is to miss nothing; the best that none could is the variance."""
    torch.manual_seed(0)
    x = torch.randn(200, 2) @ torch.randn(2, 10)
    model = autoencoder((10,), 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = RECONSTRUCTION.loss(model(x), x).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * x.var().item()


def test_it_has_209_968_parameters_for_28x28_grey_images() -> None:
    assert sum(p.numel() for p in autoencoder((1, 28, 28), 10).parameters()) == 209_968


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_records_of_nothing_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="autoencoder takes records of at least one number"):
        autoencoder(shape, 10)
