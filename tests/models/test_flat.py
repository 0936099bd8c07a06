"""Parameters as one flat vector, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bract.models import build, load_flat, read_flat


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))


def test_what_is_loaded_is_read_back_bit_for_bit() -> None:
    vector = np.random.default_rng(0).normal(size=12).astype(np.float32)
    model = small()
    load_flat(model, vector)
    assert read_flat(model).tobytes() == vector.tobytes()
    assert read_flat(model).dtype == np.float32


def test_the_order_is_that_of_parameters_each_row_by_row() -> None:
    model = small()
    load_flat(model, np.arange(12, dtype=np.float32))
    assert model[0].weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert model[0].bias.tolist() == [6, 7, 8]
    assert model[1].weight.tolist() == [[9, 10, 11]]


def test_every_parameter_of_the_cnn_is_carried() -> None:
    source, target = build("cnn", (1, 10, 10), 3, seed=1), build("cnn", (1, 10, 10), 3, seed=2)
    load_flat(target, read_flat(source))
    for mine, theirs in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("shape", [(0,), (11,), (13,), (12, 1), (1, 12), ()])
def test_a_vector_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """The network keeps its parameters."""
    model = small()
    before = read_flat(model)
    with pytest.raises(ValueError, match="expected 12 parameters"):
        load_flat(model, np.zeros(shape, dtype=np.float32))
    assert np.array_equal(read_flat(model), before)


def test_what_is_read_is_a_copy() -> None:
    model = small()
    vector = read_flat(model)
    kept = vector.copy()
    load_flat(model, np.zeros(12, dtype=np.float32))
    assert np.array_equal(vector, kept)


def test_what_is_loaded_is_a_copy_even_of_a_read_only_vector() -> None:
    model = small()
    vector = np.frombuffer(np.ones(12, dtype="<f4").tobytes(), dtype="<f4")
    load_flat(model, vector)
    with torch.no_grad():
        model[0].bias.add_(5.0)
    assert vector.tolist() == [1.0] * 12


def test_parameters_still_take_gradients_after_loading() -> None:
    model = small()
    load_flat(model, np.ones(12, dtype=np.float32))
    model(torch.ones(1, 2)).sum().backward()
    assert all(p.grad is not None and p.requires_grad for p in model.parameters())
