"""The recurrent networks: the textbook's recurrences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bract.models.networks.gru_lm import gru_lm
from bract.models.networks.lstm import lstm
from bract.models.networks.rnn import rnn


def numbers(model: torch.nn.Module) -> dict[str, Any]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 5)])
def test_rnn_is_the_textbook_recurrence(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = rnn(shape, 3), torch.randn(2, *shape)
    p, h = numbers(model), np.zeros((2, 32))
    for at in x.double().numpy().reshape(2, 6, 5).swapaxes(0, 1):
        into = at @ p["0.layer.weight_ih_l0"].T + p["0.layer.bias_ih_l0"]
        h = np.tanh(into + h @ p["0.layer.weight_hh_l0"].T + p["0.layer.bias_hh_l0"])
    expected = h @ p["1.weight"].T + p["1.bias"]
    assert np.allclose(model(x).detach().numpy(), expected, rtol=0, atol=1e-5)


def test_lstm_is_the_textbook_recurrence() -> None:
    torch.manual_seed(0)
    model, x = lstm((6, 5), 3), torch.randn(2, 6, 5)
    p, h, c = numbers(model), np.zeros((2, 32)), np.zeros((2, 32))
    for at in x.double().numpy().swapaxes(0, 1):
        into = at @ p["0.layer.weight_ih_l0"].T + p["0.layer.bias_ih_l0"]
        i, f, g, o = np.split(into + h @ p["0.layer.weight_hh_l0"].T + p["0.layer.bias_hh_l0"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    expected = h @ p["1.weight"].T + p["1.bias"]
    assert np.allclose(model(x).detach().numpy(), expected, rtol=0, atol=1e-5)


def test_gru_lm_is_the_textbook_recurrence() -> None:
    torch.manual_seed(0)
    model, x = gru_lm((6,), 9), torch.randint(0, 9, (2, 6))
    p, h, steps = numbers(model), np.zeros((2, 128)), []
    for at in p["0.weight"][x.numpy()].swapaxes(0, 1):
        a = np.split(at @ p["1.layer.weight_ih_l0"].T + p["1.layer.bias_ih_l0"], 3, axis=1)
        b = np.split(h @ p["1.layer.weight_hh_l0"].T + p["1.layer.bias_hh_l0"], 3, axis=1)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
        steps.append(np.maximum(h @ p["2.weight"].T + p["2.bias"], 0) @ p["4.weight"].T + p["4.bias"])
    assert np.allclose(model(x).detach().numpy(), np.stack(steps, axis=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("make", "count"), [(rnn, 2_314), (lstm, 8_266)])
def test_they_have_as_many_parameters_as_they_say(make: Any, count: int) -> None:
    assert sum(p.numel() for p in make((1, 28, 28), 10).parameters()) == count


def test_gru_lm_has_2021008_parameters_for_10000_tokens() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in gru_lm((100,), 10_000).parameters()) == 2_021_008


@pytest.mark.parametrize("make", [rnn, lstm])
@pytest.mark.parametrize("shape", [(), (28,), (3, 28, 28), (1, 1, 28, 28), (0, 28), (28, 0)])
def test_a_record_that_is_no_sequence_is_refused(make: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="takes records of shape"):
        make(shape, 10)


@pytest.mark.parametrize("shape", [(), (0,), (20, 3), (1, 20)])
def test_a_record_that_is_no_run_of_tokens_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="gru-lm takes records of shape"):
        gru_lm(shape, 10)
