"""Convolutions and transposed convolutions, with all their options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_autograd import check_layer, normal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.layers import conv as convolution
from bract.client.clipping.layers import outer_product as outer

examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**31)


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
@pytest.mark.parametrize("cost", [0, 10**9], ids=["instantiated", "ghost"])
@pytest.mark.parametrize("wide", [1, 10**9], ids=["column blocks", "windows"])
@pytest.mark.parametrize("flat", [True, False], ids=["Conv1d", "Conv2d"])
@examples
@given(data=st.data(), seed=seeds)
def test_convolution(
    monkeypatch: pytest.MonkeyPatch,
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
    check_layer(layer, normal((5, *shape), seed))


@examples
@given(data=st.data(), seed=seeds)
def test_transposed_convolution(data: st.DataObject, seed: int) -> None:
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
    check_layer(layer, normal((5, 2 * groups, 4, 3), seed))
