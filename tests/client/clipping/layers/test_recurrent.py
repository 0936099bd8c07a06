"""Clipping of recurrent layers: norms and sums are those of a loop over single records."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.errors import ClippingError
from bract.client.clipping.layers.recurrent import RecurrentRule

ROWS, STEPS, FEATURES, UNITS = 4, 9, 5, 7
KINDS = [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.GRU, {}), (nn.LSTM, {})]
EVERY_KIND = pytest.mark.parametrize(("kind", "options"), KINDS, ids=["rnn", "relu", "gru", "lstm"])


def installed(layer: Any) -> RecurrentRule:
    rule = RecurrentRule(layer)
    rule.install()
    return rule


def made(kind: Any, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(1)
    return kind(FEATURES, UNITS, **options).to(dtype)


def sequences(layer: Any, dtype: torch.dtype = torch.float64, rows: int = ROWS) -> torch.Tensor:
    torch.manual_seed(2)
    drawn = torch.randn(rows, STEPS, FEATURES, dtype=dtype)
    return drawn if layer.batch_first else drawn.transpose(0, 1).contiguous()


def first_states(layer: Any, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(3)
    shape = layer.num_layers * (1 + layer.bidirectional), ROWS, UNITS
    states, cells = torch.randn(2, *shape, dtype=dtype)
    return (states, cells) if isinstance(layer, nn.LSTM) else states


def flat(outputs: Any) -> list[torch.Tensor]:
    states, ends = outputs
    return [states, *(ends if isinstance(ends, tuple) else [ends])]


def loss(outputs: Any) -> torch.Tensor:
    """A loss that sees every state, and all that the layer ends with."""
    return sum((part.sin() * (number + 1)).sum() for number, part in enumerate(flat(outputs)))  # type: ignore[return-value]


def one(layer: Any, inputs: torch.Tensor, start: Any, row: int) -> tuple[torch.Tensor, Any]:
    """A record by itself."""
    alone = inputs[row : row + 1] if layer.batch_first else inputs[:, row : row + 1]
    pick = lambda s: s[:, row : row + 1].contiguous()  # noqa: E731
    return alone, None if start is None else tuple(map(pick, start)) if isinstance(start, tuple) else pick(start)


def each(layer: Any, inputs: torch.Tensor, start: Any) -> list[tuple[torch.Tensor, ...]]:
    """Every record's gradients, by autograd through torch's own layer."""
    parameters = list(layer.parameters())
    return [torch.autograd.grad(loss(layer(*one(layer, inputs, start, row))), parameters) for row in range(ROWS)]


def check_against_autograd(layer: Any, tolerance: float, with_start: bool = True) -> None:
    dtype = next(layer.parameters()).dtype
    inputs = sequences(layer, dtype).requires_grad_()
    start = first_states(layer, dtype) if with_start else None
    expected, (of_inputs,) = each(layer, inputs, start), torch.autograd.grad(loss(layer(inputs, start)), inputs)
    rule = installed(layer)
    loss(layer(inputs, start)).backward()
    (gradients,) = rule.gradients
    norms = torch.stack([sum((g.double() ** 2).sum() for g in gradients) for gradients in expected])  # type: ignore[misc]
    factors = torch.tensor([0.3, 1.0, 0.0, 0.7], dtype=torch.float64)
    assert torch.allclose(gradients.squared_norms, norms, rtol=tolerance, atol=0.0)
    assert bool((gradients.squared_norm_bounds.sqrt() >= norms.sqrt() * (1 - 1e-4)).all())
    assert (inputs.grad - of_inputs).norm() <= tolerance * of_inputs.norm()
    found = dict(gradients.weighted_sum(factors))
    for place, parameter in enumerate(layer.parameters()):
        wanted = sum(f * gradients[place] for f, gradients in zip(factors, expected, strict=True))
        assert (found[parameter] - wanted).norm() <= tolerance * wanted.norm()


@EVERY_KIND
@pytest.mark.parametrize("shape", [{}, {"bias": False}, {"num_layers": 3}, {"bidirectional": True, "num_layers": 2}])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_norms_and_sums_are_those_of_a_loop_over_single_records(
    kind: Any, options: dict[str, Any], shape: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    check_against_autograd(made(kind, dtype, batch_first=True, **options, **shape), tolerance)


@EVERY_KIND
@pytest.mark.parametrize("with_start", [True, False])
def test_time_may_come_first_and_states_may_start_at_zero(
    kind: Any, options: dict[str, Any], with_start: bool
) -> None:
    check_against_autograd(made(kind, **options), 1e-10, with_start)


@EVERY_KIND
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_outputs_are_the_layers_own(
    kind: Any, options: dict[str, Any], batch_first: bool, bidirectional: bool
) -> None:
    layer = made(kind, torch.float32, num_layers=2, batch_first=batch_first, bidirectional=bidirectional, **options)
    inputs, start = sequences(layer, torch.float32), first_states(layer, torch.float32)
    expected = flat(layer(inputs, start))
    rule = installed(layer)
    for mine, theirs in zip(flat(layer(inputs, start)), expected, strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, rtol=0.0, atol=1e-6)
    rule.remove()
    assert "forward" not in layer.__dict__


@settings(max_examples=25, deadline=None)
@given(number=st.integers(0, 3), steps=st.integers(1, 6), units=st.integers(1, 5), features=st.integers(1, 4))
def test_a_records_share_is_what_it_is_by_itself(number: int, steps: int, units: int, features: int) -> None:
    kind, options = KINDS[number]
    layer = kind(features, units, batch_first=True, **options).double()
    inputs = torch.randn(3, steps, features, dtype=torch.float64)
    rule = installed(layer)
    loss(layer(inputs)).backward()
    loss(layer(inputs[1:2])).backward()
    together, alone = rule.gradients
    assert torch.allclose(together.squared_norms[1:2], alone.squared_norms, rtol=1e-9, atol=1e-20)


@EVERY_KIND
def test_a_first_state_gets_its_gradient(kind: Any, options: dict[str, Any]) -> None:
    layer = made(kind, num_layers=2, **options)
    inputs, start = sequences(layer), first_states(layer)
    leaves = list(start) if isinstance(start, tuple) else [start]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = torch.autograd.grad(loss(layer(inputs, start)), leaves)
    installed(layer)
    for mine, theirs in zip(torch.autograd.grad(loss(layer(inputs, start)), leaves), expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_lies_between_layers_and_only_there(training: bool) -> None:
    layer = made(nn.GRU, num_layers=2, dropout=0.5, batch_first=True).train(training)
    inputs = sequences(layer)
    rule = installed(layer)
    torch.manual_seed(5)
    states, ends = layer(inputs)
    below = nn.GRU(FEATURES, UNITS, batch_first=True).double()
    below.load_state_dict({name: value for name, value in layer.state_dict().items() if "_l0" in name})
    assert torch.allclose(ends[0], below(inputs)[1][0], rtol=0.0, atol=1e-12)
    assert not bool((states == 0).any())
    rule.remove()
    same = torch.allclose(states, layer.eval()(inputs)[0], rtol=0.0, atol=1e-12)
    assert same is not training


def test_biases_come_in_tensors_of_their_own() -> None:
    layer = made(nn.LSTM)
    rule = installed(layer)
    loss(layer(sequences(layer))).backward()
    found = dict(rule.gradients[0].weighted_sum(torch.ones(ROWS, dtype=torch.float64)))
    before = found[layer.bias_hh_l0].clone()
    found[layer.bias_ih_l0].add_(1.0)
    assert torch.equal(found[layer.bias_hh_l0], before)


@EVERY_KIND
@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_parameters_that_take_no_gradient_count_for_nothing(kind: Any, options: dict[str, Any], frozen: str) -> None:
    layer = made(kind, **options)
    inputs = sequences(layer)
    expected = each(layer, inputs, None)
    getattr(layer, frozen).requires_grad_(False)
    rule = installed(layer)
    loss(layer(inputs)).backward()
    kept = [place for place, (name, _) in enumerate(layer.named_parameters()) if name != frozen]
    norms = torch.stack([sum((g[place] ** 2).sum() for place in kept) for g in expected])  # type: ignore[misc]
    assert torch.allclose(rule.gradients[0].squared_norms, norms, rtol=1e-10)
    assert len(rule.gradients[0].weighted_sum(torch.ones(ROWS, dtype=torch.float64))) == 3


@EVERY_KIND
def test_a_record_that_is_not_finite_spoils_no_other(kind: Any, options: dict[str, Any]) -> None:
    layer = made(kind, batch_first=True, **options)
    inputs, factors = sequences(layer), torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    rule = installed(layer)
    loss(layer(inputs)).backward()
    inputs[1, 3, 2] = torch.nan
    loss(layer(inputs)).backward()
    clean, spoilt = rule.gradients
    assert bool(spoilt.squared_norms[1].isnan())
    expected = dict(clean.weighted_sum(factors))
    for parameter, found in spoilt.weighted_sum(factors):
        assert torch.allclose(found, expected[parameter], rtol=1e-12, atol=1e-14)


def test_states_changed_in_place_are_noticed() -> None:
    layer = made(nn.GRU)
    installed(layer)
    states, _ = layer(sequences(layer))
    with pytest.raises(RuntimeError, match="inplace"):
        states.mul_(2.0).sum().backward()


def test_nothing_is_noted_without_gradients() -> None:
    layer = made(nn.GRU)
    rule = installed(layer)
    with torch.no_grad():
        layer(sequences(layer))
    assert rule.gradients == []


def test_a_projection_is_refused() -> None:
    with pytest.raises(ClippingError, match="proj_size"):
        RecurrentRule(nn.LSTM(FEATURES, UNITS, proj_size=3))


@pytest.mark.parametrize("shape", [(STEPS, FEATURES), (2, STEPS, FEATURES + 1), (2, 0, FEATURES)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    layer = made(nn.GRU, batch_first=True)
    installed(layer)
    with pytest.raises(ValueError, match="recurrent layer"):
        layer(torch.zeros(shape, dtype=torch.float64))


def test_first_states_of_another_shape_are_refused() -> None:
    layer = made(nn.LSTM)
    installed(layer)
    with pytest.raises(ValueError, match="first states of nn"):
        layer(sequences(layer), (torch.zeros(1, ROWS, UNITS), torch.zeros(1, 1, UNITS)))
