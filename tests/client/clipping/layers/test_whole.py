"""Modules without a rule of their own: their gradients are those of a loop over single records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bract.client.clipping import InstantiatedGradients, register_rule
from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.determinism import batch_invariant
from bract.client.clipping.engine import make_engine
from bract.client.clipping.errors import ClippingError
from bract.client.clipping.hooks import HookedNetwork
from bract.client.clipping.layers.base import ActivationRule
from bract.client.clipping.layers.registry import RULES
from bract.client.records import Records
from bract.models.objectives import cross_entropy
from tests.helpers.by_autograd import looped_sum

ROWS, STEPS, WIDTH, CLASSES = 9, 5, 8, 3


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    """The rules that a test registers are forgotten after it; weights are the same in every run."""
    before = dict(RULES)
    torch.manual_seed(0)
    yield
    RULES.clear()
    RULES.update(before)


class Encoder(nn.Module):
    """A transformer encoder over vectors, with a mask that all records share, or one of each record."""

    def __init__(self, mask: str = "", dropout: float = 0.0, norm_first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout, batch_first=True, norm_first=norm_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out, self.mask = nn.Linear(WIDTH, CLASSES), mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        steps = {
            "": lambda: self.layers(x),
            "causal": lambda: self.layers(x, mask=causal),
            "padding": lambda: self.layers(x, src_key_padding_mask=x[..., 0] > 0.9),
        }[self.mask]()
        return self.out(steps.mean(1))


class Attention(nn.Module):
    """Multi-head attention whose weights, averaged over heads, are used too."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options)
        self.out = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, weights = self.attention(x, x, x)
        return self.out(found.mean(1)) * weights.square().sum((1, 2))[:, None]


class Tied(nn.Module):
    """A language model whose last layer has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(7, 6), nn.GRU(6, 6, batch_first=True)
        self.out = nn.Linear(6, 7)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.embedding(tokens))[0])


class TiedByHand(nn.Module):
    """The same, with the weight taken from the embedding in the network's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(7, 6), nn.GRU(6, 6, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.gru(self.embedding(tokens))[0], self.embedding.weight)


class Twice(nn.Module):
    """A layer that every record passes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.layer(x).tanh()).tanh().mean(1))


class Scaled(nn.Module):
    """A module with a number of its own, a layer inside, and a second use of that layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.tensor(1.3)), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.layer(x) + nn.functional.linear(x, self.layer.weight)


class ClassToken(nn.Module):
    """A learned vector before the steps, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.encoder = nn.Parameter(torch.randn(1, 1, WIDTH)), Encoder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(torch.cat([self.token.expand(len(x), -1, -1), x], 1))


class Cells(nn.Module):
    """A time loop over torch's LSTM cell, which has no vectorized form."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(WIDTH, 4), nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(len(x), 4)
        for step in range(x.shape[1]):
            h, c = self.cell(x[:, step], (h, c))
        return self.out(h)


class Residual(nn.Module):
    """A block of convolutions with GroupNorm around which the input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def head(*layers: nn.Module, inputs: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, CLASSES))


VECTORS, IMAGES, TOKENS = (STEPS, WIDTH), (1, 4, 6), "tokens"
NETWORKS: dict[str, tuple[Any, Any]] = {
    "encoder": (Encoder, VECTORS),
    "encoder, norm first": (lambda: Encoder(norm_first=True), VECTORS),
    "encoder, causal": (lambda: Encoder("causal"), VECTORS),
    "encoder, causal, as many steps as rows": (lambda: Encoder("causal"), (32, WIDTH)),
    "encoder, padded": (lambda: Encoder("padding"), VECTORS),
    "attention": (Attention, VECTORS),
    "attention, other keys": (lambda: Attention(add_bias_kv=True, bias=False), VECTORS),
    "tied": (Tied, TOKENS),
    "used twice": (Twice, VECTORS),
    "a module of one's own": (lambda: head(Scaled(), inputs=STEPS * WIDTH), VECTORS),
    "class token": (ClassToken, VECTORS),
    "cells": (Cells, VECTORS),
    "residual": (lambda: head(Residual(), nn.AvgPool2d(2), inputs=6), IMAGES),
    "prelu": (lambda: head(nn.Conv2d(1, 3, 3), nn.PReLU(3), nn.AdaptiveAvgPool2d(2), inputs=12), IMAGES),
    "activations": (lambda: head(nn.Linear(WIDTH, 4), nn.LeakyReLU(), nn.GELU(), nn.SiLU(), inputs=20), VECTORS),
    "bag": (lambda: nn.Sequential(nn.EmbeddingBag(7, 6), nn.Linear(6, CLASSES)), "bags"),
    "conv3d": (lambda: head(nn.Conv3d(1, 2, 3), inputs=16), (1, 4, 4, 4)),
}


def records_of(shape: Any, count: int = ROWS) -> Records:
    labels = torch.arange(count) % CLASSES
    if shape in ("tokens", "bags"):
        tokens = torch.randint(0, 7, (count, STEPS))
        return Records(tokens, tokens if shape == "tokens" else labels)
    return Records(torch.randn(count, *shape), labels)


@pytest.mark.parametrize("clip", [0.3, 1e6])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_common_network_is_clipped_as_by_a_loop_over_records(name: str, clip: float) -> None:
    make, shape = NETWORKS[name]
    model, records = make(), records_of(shape)
    engine, looped = make_engine(model, clip), looped_sum(model, records, clip)
    assert isinstance(engine, BookKeepingEngine)
    assert np.linalg.norm(engine.clipped_sum(records) - looped) < 1e-5 * np.linalg.norm(looped)


@pytest.mark.parametrize("name", ["encoder", "attention", "tied", "cells", "a module of one's own", "prelu"])
def test_a_gradient_is_the_same_to_the_bit_in_every_row(name: str) -> None:
    """And beside all other records, also beside those whose gradients are not finite."""
    make, shape = NETWORKS[name]
    model, here, others = make(), records_of(shape, 32), records_of(shape, 32)
    expected = _of_row(model, here, 0)
    for row in (0, 1, 17, 31):
        features, labels = others.features.clone(), others.labels.clone()
        if features.is_floating_point():
            features[(row + 1) % 32] = float("nan")
        features[row], labels[row] = here.features[0], here.labels[0]
        found = _of_row(model, Records(features, labels), row)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), row


def _of_row(model: nn.Module, records: Records, row: int) -> list[torch.Tensor]:
    """The gradients of one record in a pass of 32."""
    chosen = torch.eye(32, dtype=torch.float64)[row]
    with batch_invariant(torch.device("cpu")), HookedNetwork(model) as hooked:
        layers = hooked.per_example_gradients(cross_entropy, records.features, records.labels, 32)
        return [part.clone() for layer in layers for _, part in layer.weighted_sum(chosen)]


def test_dropout_in_attention_is_the_same_in_both_passes() -> None:
    """The output's gradient belongs to the dropout of the first pass, so the second one has to draw it again."""
    model = Encoder(dropout=0.5)
    engine, records = make_engine(model, 1e6), records_of(VECTORS, 400)
    sums = [engine.clipped_sum(records) for _ in range(6)]
    assert not np.array_equal(sums[0], sums[1])
    mean = np.mean(sums, axis=0)
    expected = np.mean([_by_autograd(model, records) for _ in range(40)], axis=0)
    assert np.linalg.norm(mean - expected) < 0.3 * np.linalg.norm(expected)


def _by_autograd(model: nn.Module, records: Records) -> np.ndarray:
    loss = cross_entropy(model(records.features), records.labels).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).numpy()


def test_a_weight_tied_by_hand_needs_a_rule_for_the_whole() -> None:
    model, records = TiedByHand(), records_of(TOKENS)
    with pytest.raises(ClippingError, match="the rules of book-keeping do not give") as caught:
        make_engine(model, 0.3).clipped_sum(records)
    assert "register_rule" in caught.value.hint
    register_rule(TiedByHand)
    found, looped = make_engine(model, 0.3).clipped_sum(records), looped_sum(model, records, 0.3)
    assert np.linalg.norm(found - looped) < 1e-5 * np.linalg.norm(looped)


class Gain(nn.Module):
    """A layer that multiplies its inputs [rows, width] by learned numbers."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class GainRule(ActivationRule):
    """The rule of `Gain`; `wrong` is added to its gradients, for a rule that is wrong."""

    wrong = 0.0

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs * self.layer.gain.detach(), inputs.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> InstantiatedGradients:
        return InstantiatedGradients([(self.layer.gain, activation * output_gradient + self.wrong)])


class WrongRule(GainRule):
    wrong = 1e-3


def test_a_rule_of_ones_own_is_used_when_it_is_registered() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Gain(), nn.Linear(WIDTH, CLASSES))
    records = records_of((WIDTH,))
    register_rule(Gain, GainRule)
    engine, looped = make_engine(model, 0.3), looped_sum(model, records, 0.3)
    assert np.linalg.norm(engine.clipped_sum(records) - looped) < 1e-5 * np.linalg.norm(looped)


def test_a_rule_of_ones_own_that_is_wrong_is_refused() -> None:
    """By the comparison with a loop over records, before a record is clipped."""
    register_rule(Gain, WrongRule)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Gain(), nn.Linear(WIDTH, CLASSES))
    with pytest.raises(ClippingError, match="the rules of book-keeping do not give"):
        make_engine(model, 0.3).rehearse(records_of((WIDTH,), 2))


def test_bracts_own_rules_cannot_be_replaced() -> None:
    with pytest.raises(ValueError, match="has a rule already"):
        register_rule(nn.Linear, GainRule)
    with pytest.raises(TypeError):
        register_rule(Gain, Gain)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        register_rule(GainRule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: nn.TransformerEncoderLayer(WIDTH, 2, 16), "set batch_first=True"),
        (lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(STEPS), nn.Linear(4, 3)), "use nn.GroupNorm"),
    ],
)
def test_a_layer_that_mixes_records_is_refused_by_name(make: Any, what: str) -> None:
    with pytest.raises(ClippingError) as caught:
        make_engine(make(), 1.0).rehearse(records_of(VECTORS, 2))
    assert what in caught.value.hint
