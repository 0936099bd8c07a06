"""The attention network: its formula, its order of steps and its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bract.models.networks.attention import Attention, attention


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_the_textbook_formula(causal: bool) -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, causal).double(), torch.randn(3, 5, 8, dtype=torch.float64)
    p = {name: value.numpy() for name, value in layer.state_dict().items()}
    q, k, v = (x.numpy() @ p[f"{name}.weight"].T + p[f"{name}.bias"] for name in ("query", "key", "value"))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(8)
    if causal:
        scores[:, np.triu(np.ones((5, 5), dtype=bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    expected = weights @ v @ p["out.weight"].T + p["out.bias"]
    assert np.allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_no_step_of_a_text_sees_what_comes_after_it() -> None:
    torch.manual_seed(0)
    model, x = attention((6,), 9), torch.randint(0, 9, (2, 6))
    later = x.clone()
    later[:, 4:] = (later[:, 4:] + 1) % 9
    assert torch.allclose(model(x)[:, :4], model(later)[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(model(x)[:, 4:], model(later)[:, 4:])


def test_the_order_of_steps_matters() -> None:
    torch.manual_seed(0)
    model, x = attention((6, 5), 3), torch.randn(2, 6, 5)
    assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 5)])
def test_one_logit_a_class_for_every_sequence(shape: tuple[int, ...]) -> None:
    assert attention(shape, 3)(torch.randn(4, *shape)).shape == (4, 3)


def test_one_logit_a_token_for_every_step_of_a_text() -> None:
    assert attention((6,), 9)(torch.randint(0, 9, (4, 6))).shape == (4, 6, 9)


def test_it_has_21066_parameters_for_28_steps_of_28_features() -> None:
    """There are 10 classes."""
    assert sum(p.numel() for p in attention((1, 28, 28), 10).parameters()) == 21_066


@pytest.mark.parametrize("shape", [(), (0,), (3, 28, 28), (0, 5)])
def test_another_record_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="attention takes records of shape"):
        attention(shape, 3)
