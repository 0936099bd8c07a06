"""Sums of outer products whose factors are of any size, and records that lie anywhere in a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.client.clipping.layers.outer_product import OuterProducts, is_instantiated

SLACK = 1 + 1 / 1024


def one_of(rows: int, row: int, factor: float = 1.0) -> torch.Tensor:
    factors = torch.zeros(rows, dtype=torch.float64)
    factors[row] = factor
    return factors


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(-44, 38),
    other=st.integers(-44, 38),
    steps=st.sampled_from([1, 3, 40]),
    clip=st.sampled_from([1e-3, 0.7, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_factors_of_any_size_add_at_most_the_clip_norm(
    size: int, other: int, steps: int, clip: float, seed: int
) -> None:
    """Activations from 1e-44 to 1e38, with output gradients as far the other way."""
    generator = torch.Generator().manual_seed(seed)
    inputs, gradients = (
        (torch.rand(2, 1, steps, width, generator=generator, dtype=torch.float64) * 10.0**power).float()
        for width, power in ((200, size), (100, other))
    )
    products = OuterProducts(inputs, gradients)
    norm = float(products.squared_norms[0].sqrt())
    share = products.weighted_sum(one_of(2, 0, min(1.0, clip / (norm + 1e-6)))).double()
    assert float(share.norm()) <= clip * SLACK or (not products.is_instantiated and norm > clip * 2.0**100)
    whole = torch.matmul(gradients[0, 0].double().t(), inputs[0, 0].double()).norm()
    assert abs(norm - float(whole)) <= 1e-5 * float(whole) + 1e-16 or norm == float("inf")


@pytest.mark.parametrize("clip", [9.2e-4, 1.0])
def test_subnormal_numbers_are_not_rounded_past_the_clip_norm(clip: float) -> None:
    inputs, gradients = torch.full((1, 1, 1, 784), 3e38), torch.full((1, 1, 1, 200), 1e-43)
    products = OuterProducts(inputs, gradients)
    factor = clip / (float(products.squared_norms[0].sqrt()) + 1e-6)
    assert float(products.weighted_sum(one_of(1, 0, factor)).double().norm()) <= clip * SLACK


def test_a_large_factor_times_a_large_gradient_is_finite() -> None:
    """Beside activations so small that the product is of usual size."""
    inputs, gradients = torch.full((2, 1, 1, 20), 1e-44), torch.full((2, 1, 1, 10), 3e38)
    found = OuterProducts(inputs, gradients).weighted_sum(torch.full((2,), 16.0, dtype=torch.float64))
    expected = 32 * gradients[0, 0].double().t() @ inputs[0, 0].double()
    assert torch.allclose(found[0].double(), expected, rtol=1e-6)


def test_groups_of_opposite_sizes_bring_in_the_clip_norm_at_most() -> None:
    sizes = torch.tensor([1e38, 1e-38]).view(1, 2, 1, 1)
    inputs, gradients = sizes * torch.rand(3, 2, 1, 40), sizes.flip(1) * torch.rand(3, 2, 1, 30)
    products = OuterProducts(inputs, gradients)
    factors = 1 / products.squared_norms.sqrt()
    assert not products.is_instantiated
    assert all(0.99 < products.weighted_sum(one_of(3, row, float(factors[row]))).norm() <= SLACK for row in range(3))


@pytest.mark.parametrize(("steps", "width"), [(7, 64), (6, 33), (20, 500)])
def test_a_record_that_cancels_gives_the_same_wherever_it_lies(steps: int, width: int) -> None:
    torch.manual_seed(0)
    rows = 64
    half = torch.randn(1, 1, steps, width)
    inputs = torch.cat([half, -half.flip(2)], dim=2)[:, :, 1:] * 1e6
    gradients = torch.ones(1, 1, 1, width).expand(1, 1, inputs.shape[2], width)
    products = OuterProducts(*(part.expand(rows, -1, -1, -1).contiguous() for part in (inputs, gradients)))
    assert not is_instantiated(inputs.shape[2], 1, width, width)
    first = products.weighted_sum(one_of(rows, 0))
    assert all(torch.equal(products.weighted_sum(one_of(rows, row)), first) for row in range(1, rows))


def test_rounding_does_not_add_up_over_positions() -> None:
    """One record's large terms, which cancel, lie first and last, and lift the numbers between to where half steps
    of float32 are rounded up: in float32 the small records' sum would come out larger by a part of itself."""
    rows, steps, width, large = 32, 12, 128, 16.0
    inputs = torch.full((rows, 1, steps, width), large * 2.0**-24 * 1.01)
    inputs[0] = 0.0
    inputs[0, 0, 0], inputs[-1, 0, -1] = large, -large
    gradients = torch.ones(rows, 1, steps, width)
    products = OuterProducts(inputs, gradients)
    assert not products.is_instantiated
    found = products.weighted_sum(torch.ones(rows, dtype=torch.float64))[0].double()
    expected = torch.einsum("ngtd,ngtp->dp", gradients.double(), inputs.double())
    assert (found - expected).norm() <= 1e-6 * expected.norm()
