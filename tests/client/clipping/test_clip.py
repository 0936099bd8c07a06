"""Per-example norms over all layers, and the clipped sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.clip import SHORT, JoinedGradients, joined_if_short
from bract.client.clipping.layers.instantiated import BLOCK, InstantiatedGradients
from bract.client.clipping.layers.linear import linear_gradients

ROWS = 4
shapes = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


def each_of(*shapes: tuple[int, ...]) -> InstantiatedGradients:
    return InstantiatedGradients([(nn.Parameter(torch.zeros(shape)), torch.randn(ROWS, *shape)) for shape in shapes])


@given(st.lists(shapes, min_size=1, max_size=3), st.integers(0, 9))
def test_norms_and_sums_are_those_of_the_layers(shapes_of_layers: list[list[tuple[int, ...]]], seed: int) -> None:
    torch.manual_seed(seed)
    layers = [each_of(*shapes) for shapes in shapes_of_layers]
    (found,) = joined_if_short(layers)
    assert isinstance(found, JoinedGradients)
    norms = torch.stack([layer.squared_norms for layer in layers]).sum(0)
    assert torch.allclose(found.squared_norms, norms, rtol=1e-6)
    assert torch.equal(found.squared_norm_bounds, found.squared_norms)
    factors = torch.tensor([0.3, 0.0, 1.0, 0.7], dtype=torch.float64)
    expected = [pair for layer in layers for pair in layer.weighted_sum(factors)]
    for (parameter, part), (theirs, wanted) in zip(found.weighted_sum(factors), expected, strict=True):
        assert parameter is theirs
        assert torch.allclose(part, wanted, rtol=1e-5, atol=1e-6)
    ((parameters, flat),) = found.partial_sums(factors)
    assert all(one is other for one, (other, _) in zip(parameters, expected, strict=True))
    assert torch.allclose(flat, torch.cat([part.flatten() for _, part in expected]), rtol=1e-5, atol=1e-6)


def test_a_record_that_is_not_finite_spoils_no_other() -> None:
    layer = each_of((3,), (2, 2))
    layer.instantiated[0][1][1, 2] = torch.nan
    (found,) = joined_if_short([layer])
    factors = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert not torch.isfinite(found.squared_norms[1])
    assert all(bool(torch.isfinite(part).all()) for _, part in found.weighted_sum(factors))


@pytest.mark.parametrize(("size", "merged"), [(SHORT, True), (SHORT + 1, False)])
def test_only_short_gradients_are_joined(size: int, merged: bool) -> None:
    layers = [each_of((size - 1,)), each_of((1,))]
    assert isinstance(joined_if_short(layers)[0], JoinedGradients) == merged
    assert len(joined_if_short(layers)) == (1 if merged else 2)


def test_gradients_not_instantiated_are_not_joined() -> None:
    linear = nn.Linear(40, 40)
    layers = [each_of((2,)), linear_gradients(linear, torch.randn(ROWS, 40), torch.randn(ROWS, 40))]
    assert joined_if_short(layers) is layers


def test_the_sum_of_squares_sees_every_number() -> None:
    """Also those in the last block, which is filled up."""
    for size in (1, BLOCK - 1, BLOCK, BLOCK + 1):
        parameter, each = nn.Parameter(torch.zeros(size)), torch.zeros(ROWS, size)
        each[0, -1] = 3.0
        assert joined_if_short([InstantiatedGradients([(parameter, each)])])[0].squared_norms.tolist() == [
            9.0,
            0.0,
            0.0,
            0.0,
        ]
