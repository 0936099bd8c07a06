"""The time loop of nn.RNN, where numpy does it and where torch does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client.clipping.layers.scan import rnn as module
from bract.client.clipping.layers.scan.base import Weights
from bract.client.clipping.layers.scan.rnn import ReluScan, TanhScan

ROWS, STEPS, FEATURES, UNITS = 32, 6, 5, 7
LOOPS = pytest.mark.parametrize("small", [0, 1 << 17], ids=["torch", "numpy"])


@LOOPS
@pytest.mark.parametrize(("kind", "nonlinearity"), [(TanhScan, "tanh"), (ReluScan, "relu")])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("every", [True, False], ids=["every state", "the last state"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_states_and_gates_are_those_of_torch(
    monkeypatch: pytest.MonkeyPatch,
    small: int,
    kind: type[TanhScan],
    nonlinearity: str,
    bias: bool,
    every: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """What reaches the gates is what reaches the inputs of a layer whose weights for them are the identity."""
    monkeypatch.setattr(module, "SMALL_PRODUCT", small)
    torch.manual_seed(0)
    layer = nn.RNN(FEATURES, UNITS, nonlinearity=nonlinearity, bias=bias).to(dtype)
    inputs, start = torch.randn(STEPS, ROWS, FEATURES, dtype=dtype), torch.randn(ROWS, UNITS, dtype=dtype)
    weights = Weights(*(parameter.detach() for parameter in layer.parameters()))
    of_states, of_end = torch.randn(STEPS, ROWS, UNITS, dtype=dtype), torch.randn(ROWS, UNITS, dtype=dtype)

    same = nn.RNN(UNITS, UNITS, nonlinearity=nonlinearity, bias=False).to(dtype)
    same.weight_ih_l0.data, same.weight_hh_l0.data = torch.eye(UNITS, dtype=dtype), weights.w_hh
    both = weights.both_biases()
    fed = (inputs @ weights.w_ih.t() + (0.0 if both is None else both)).requires_grad_()
    began = start[None].clone().requires_grad_()
    states, ends = same(fed, began)
    loss = (ends[0] * of_end).sum() + ((states * of_states).sum() if every else 0.0)
    of_gates, of_start = torch.autograd.grad(loss, [fed, began])

    with torch.no_grad():
        scan = kind(inputs, [start], weights)
        gates = scan.gate_gradients(of_states.clone() if every else None, [of_end.clone()])
    assert (scan.states[1:] - states).norm() <= tolerance * states.norm()
    assert torch.equal(scan.states[0], start)
    assert torch.equal(scan.ends[0], scan.states[-1])
    assert (gates.of_inputs - of_gates).norm() <= tolerance * of_gates.norm()
    assert (gates.of_start[0] - of_start[0]).norm() <= tolerance * of_start.norm()


@LOOPS
@pytest.mark.parametrize("kind", [TanhScan, ReluScan])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_row_that_is_not_finite_is_nobody_elses(
    monkeypatch: pytest.MonkeyPatch, small: int, kind: type[TanhScan], value: float
) -> None:
    monkeypatch.setattr(module, "SMALL_PRODUCT", small)
    torch.manual_seed(0)
    weights = Weights(torch.randn(UNITS, FEATURES), torch.randn(UNITS, UNITS))
    inputs, of_end = torch.randn(STEPS, ROWS, FEATURES), torch.randn(ROWS, UNITS)
    spoilt = inputs.clone()
    spoilt[2, 5] = value
    with torch.no_grad():
        scans = [kind(given, [torch.zeros(ROWS, UNITS)], weights) for given in (inputs, spoilt)]
        honest, other = ([scan.states, scan.gate_gradients(None, [of_end]).of_inputs] for scan in scans)
    rest = torch.arange(ROWS) != 5
    assert all(torch.equal(a[:, rest], b[:, rest]) for a, b in zip(honest, other, strict=True))
