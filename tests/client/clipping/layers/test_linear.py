"""nn.Linear at one position and at many, with gradients instantiated and with ghost norms."""

from __future__ import annotations

import pytest
import torch
from by_autograd import check_layer, normal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.layers import outer_product as outer

examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes, seeds = st.integers(1, 5), st.integers(0, 2**31)


@pytest.mark.parametrize("cost", [0, outer.INSTANTIATION_COST, 10**9], ids=["instantiated", "chosen", "ghost"])
@examples
@given(between=st.lists(sizes, max_size=3), p=sizes, d=sizes, bias=st.booleans(), seed=seeds)
def test_linear(
    monkeypatch: pytest.MonkeyPatch,
    cost: int,
    between: list[int],
    p: int,
    d: int,
    bias: bool,
    seed: int,
) -> None:
    monkeypatch.setattr(outer, "INSTANTIATION_COST", cost)
    torch.manual_seed(seed)
    check_layer(nn.Linear(p, d, bias), normal((6, *between, p), seed))


@pytest.mark.parametrize("frozen", [{"0.weight"}, {"0.bias"}, {"2.weight", "2.bias"}, {"0.weight", "2.bias"}])
def test_frozen_parameters_take_no_part(frozen: set[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    check_layer(model, normal((6, 4), 0))
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
