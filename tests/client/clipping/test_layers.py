"""Every layer that has a rule, in every option: sums and norms are those of a loop over single records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.layers import conv as convolution
from bract.client.clipping.layers import outer_product as outer
from bract.client.records import Records

Reference = Callable[..., np.ndarray]
CASES = [(torch.float32, 1e-5, 0.3), (torch.float64, 1e-10, 0.3), (torch.float64, 1e-10, 1e6)]
examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def squares(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss for outputs of any shape, under which every output has a gradient of its own."""
    sizes = torch.linspace(0.5, 1.5, outputs[0].numel(), dtype=outputs.dtype)
    return (torch.sin(outputs.flatten(1)) * sizes).sum(1) * (1 + labels)


class Wrap(nn.Module):
    """A layer after an elementwise function, so that it is not the first that gradients reach."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).tanh()


def agree(layer: nn.Module, features: torch.Tensor, looped_sum: Reference, loss: Any = squares) -> None:
    for dtype, tolerance, clip in CASES:
        model = Wrap(layer).to(dtype)
        inputs = features.to(dtype) if features.is_floating_point() else features
        records = Records(inputs, torch.arange(len(inputs)) % 3)
        expected = looped_sum(model, records, clip, loss)
        largest = max(float(np.linalg.norm(looped_sum(model, one, clip, loss))) for one in records.chunks(1))
        found = BookKeepingEngine(model, clip, loss, rows=4).clipped_sum(records)
        assert np.linalg.norm(found - expected) <= tolerance * len(records) * largest
        assert largest > 0


def made(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


sizes, seeds = st.integers(1, 5), st.integers(0, 2**31)


@pytest.mark.parametrize("cost", [0, outer.INSTANTIATION_COST, 10**9], ids=["made", "chosen", "gram"])
@examples
@given(between=st.lists(sizes, max_size=3), p=sizes, d=sizes, bias=st.booleans(), seed=seeds)
def test_linear(
    monkeypatch: pytest.MonkeyPatch,
    looped_sum: Reference,
    cost: int,
    between: list[int],
    p: int,
    d: int,
    bias: bool,
    seed: int,
) -> None:
    monkeypatch.setattr(outer, "INSTANTIATION_COST", cost)
    torch.manual_seed(seed)
    agree(nn.Linear(p, d, bias), made((6, *between, p), seed), looped_sum)


@st.composite
def convolutions(draw: st.DrawFn, flat: bool) -> tuple[nn.Module, tuple[int, ...]]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    into, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    mode = draw(st.sampled_from(["zeros", "zeros", "circular", "reflect", "replicate"]))
    axes = 1 if flat else 2
    kernel, dilation = (tuple(draw(st.integers(1, 3)) for _ in range(axes)) for _ in range(2))
    same = draw(st.booleans())
    stride = (1,) * axes if same else tuple(draw(st.integers(1, 3)) for _ in range(axes))
    padding: Any = "same" if same else tuple(draw(st.integers(0, 2)) for _ in range(axes))
    kind = nn.Conv1d if flat else nn.Conv2d
    options = {"groups": groups, "bias": draw(st.booleans()), "padding_mode": mode}
    layer = kind(into, out, kernel, stride, padding, dilation, **options)  # type: ignore[arg-type]
    least = [max(d * (k - 1) + 1, 3) for d, k in zip(dilation, kernel, strict=True)]
    return layer, (into, *(side + draw(st.integers(0, 6)) for side in least))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("cost", [0, 10**9], ids=["made", "gram"])
@pytest.mark.parametrize("wide", [1, 10**9], ids=["strips", "windows"])
@pytest.mark.parametrize("flat", [True, False], ids=["Conv1d", "Conv2d"])
@examples
@given(data=st.data(), seed=seeds)
def test_convolution(
    monkeypatch: pytest.MonkeyPatch,
    looped_sum: Reference,
    cost: int,
    wide: int,
    flat: bool,
    data: st.DataObject,
    seed: int,
) -> None:
    monkeypatch.setattr(outer, "INSTANTIATION_COST", cost)
    monkeypatch.setattr(convolution, "WIDE", wide)
    torch.manual_seed(seed)
    layer, shape = data.draw(convolutions(flat))
    agree(layer, made((5, *shape), seed), looped_sum)


@examples
@given(data=st.data(), seed=seeds)
def test_transposed_convolution(looped_sum: Reference, data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    groups = data.draw(st.sampled_from([1, 2]))
    stride, dilation = ((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))) for _ in range(2))
    more = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    kernel = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    whole = [(side - 1) * s + far + extra for side, s, far, extra in zip((4, 3), stride, reach, more, strict=True)]
    padding = tuple(data.draw(st.integers(0, min(far, size // 2))) for far, size in zip(reach, whole, strict=True))
    layer = nn.ConvTranspose2d(
        2 * groups, 3 * groups, kernel, stride, padding, more, groups, data.draw(st.booleans()), dilation
    )
    agree(layer, made((5, 2 * groups, 4, 3), seed), looped_sum)


@examples
@given(steps=st.lists(sizes, max_size=2), width=sizes, padding=st.sampled_from([None, 0, 2]), seed=seeds)
def test_embedding(looped_sum: Reference, steps: list[int], width: int, padding: int | None, seed: int) -> None:
    torch.manual_seed(seed)
    tokens = torch.randint(0, 4, (6, *steps), generator=torch.Generator().manual_seed(seed))
    tokens[0] = 1  # never nothing but padding
    agree(nn.Embedding(4, width, padding), tokens, looped_sum)


@examples
@given(steps=st.lists(sizes, max_size=2), shape=st.lists(st.integers(2, 4), min_size=1, max_size=2), seed=seeds)
def test_layer_norm(looped_sum: Reference, steps: list[int], shape: list[int], seed: int) -> None:
    layer = nn.LayerNorm(shape, bias=bool(seed % 2))
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    agree(layer, made((6, *steps, *shape), seed), looped_sum)


@examples
@given(groups=st.integers(1, 3), places=st.lists(st.integers(2, 4), min_size=1, max_size=2), seed=seeds)
def test_group_norm(looped_sum: Reference, groups: int, places: list[int], seed: int) -> None:
    layer = nn.GroupNorm(groups, 2 * groups)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    agree(layer, made((6, 2 * groups, *places), seed), looped_sum)


def test_a_norm_without_parameters_is_passed_through(looped_sum: Reference) -> None:
    plain = nn.Sequential(
        nn.Linear(4, 6), nn.LayerNorm(6, elementwise_affine=False), nn.GroupNorm(2, 6, affine=False)
    )
    agree(plain, made((6, 4), 0), looped_sum)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True)])
def test_maxima_before_or_after_relu_have_the_same_gradient_also_at_ties(
    looped_sum: Reference, pool: nn.Module, inplace: bool
) -> None:
    torch.manual_seed(0)
    features = torch.randint(-1, 2, (6, 2, 9, 7)).float()  # flat patches, so that windows hold ties
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(inplace), pool, nn.Conv2d(3, 2, 2), nn.ReLU(inplace))
    agree(model, features, looped_sum)


@pytest.mark.parametrize("frozen", [{"0.weight"}, {"0.bias"}, {"2.weight", "2.bias"}, {"0.weight", "2.bias"}])
def test_frozen_parameters_take_no_part(looped_sum: Reference, frozen: set[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    agree(model, made((6, 4), 0), looped_sum)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
