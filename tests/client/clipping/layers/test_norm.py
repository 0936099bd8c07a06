"""nn.LayerNorm and nn.GroupNorm, with and without parameters."""

from __future__ import annotations

import torch
from by_autograd import check_layer, normal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes, seeds = st.integers(1, 5), st.integers(0, 2**31)


@examples
@given(steps=st.lists(sizes, max_size=2), shape=st.lists(st.integers(2, 4), min_size=1, max_size=2), seed=seeds)
def test_layer_norm(steps: list[int], shape: list[int], seed: int) -> None:
    layer = nn.LayerNorm(shape, bias=bool(seed % 2))
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    check_layer(layer, normal((6, *steps, *shape), seed))


@examples
@given(groups=st.integers(1, 3), places=st.lists(st.integers(2, 4), min_size=1, max_size=2), seed=seeds)
def test_group_norm(groups: int, places: list[int], seed: int) -> None:
    layer = nn.GroupNorm(groups, 2 * groups)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    check_layer(layer, normal((6, 2 * groups, *places), seed))


def test_a_norm_without_parameters_is_passed_through() -> None:
    plain = nn.Sequential(
        nn.Linear(4, 6), nn.LayerNorm(6, elementwise_affine=False), nn.GroupNorm(2, 6, affine=False)
    )
    check_layer(plain, normal((6, 4), 0))
