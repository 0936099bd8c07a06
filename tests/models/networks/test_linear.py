"""Linear regression: its formula, its gradient and its optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bract.models.networks.linear import linear
from bract.models.objectives import REGRESSION


def test_it_is_the_textbook_formula_and_its_gradient() -> None:
    torch.manual_seed(0)
    model, x, y = linear((2, 3), 1), torch.randn(5, 2, 3), torch.randn(5)
    weights, bias = (p.detach().numpy().ravel() for p in model.parameters())
    flat = x.numpy().reshape(5, 6)
    errors = flat @ weights + bias - y.numpy()
    outputs = model(x)
    assert outputs.shape == (5, 1)
    assert np.allclose(outputs.detach().numpy()[:, 0], errors + y.numpy(), atol=1e-6)
    losses = REGRESSION.loss(outputs, y)
    assert np.allclose(losses.detach().numpy(), errors**2, atol=1e-5)
    found = torch.autograd.grad(losses.sum(), list(model.parameters()))
    assert np.allclose(found[0].numpy(), 2 * errors @ flat, atol=1e-4)
    assert np.allclose(found[1].numpy(), 2 * errors.sum(), atol=1e-4)


def test_steps_against_the_gradient_end_at_the_normal_equations() -> None:
    torch.manual_seed(0)
    model, x, y = linear((3,), 1).double(), torch.randn(40, 3, dtype=torch.float64), torch.randn(40).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        REGRESSION.loss(model(x), y).mean().backward()
        optimizer.step()
    whole = np.column_stack([x.numpy(), np.ones(40)])
    expected = np.linalg.solve(whole.T @ whole, whole.T @ y.numpy())
    assert np.allclose(torch.cat([p.detach().ravel() for p in model.parameters()]).numpy(), expected, atol=1e-9)


def test_it_has_a_parameter_a_feature_and_one_more() -> None:
    assert sum(p.numel() for p in linear((10,), 1).parameters()) == 11


def test_records_of_nothing_and_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="linear takes records of at least one number"):
        linear((3, 0), 1)
    with pytest.raises(ValueError, match="linear predicts one number"):
        linear((3,), 10)
