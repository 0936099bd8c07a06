"""Parameters chosen to make gradients cancel, and records of any size, move a sum by the clip norm at most."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping import clip as clipping
from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.layers import outer_product as outer
from bract.client.records import Records
from bract.models import build

CLIP, SLACK = 0.7, 1 + 1 / 1024
WIDTH, STEPS = 96, 4
examples = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def linear_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Every position has the same output gradient, so that inputs of opposite sign cancel."""
    sizes = torch.linspace(-1.0, 1.5, outputs.shape[-1], dtype=outputs.dtype)
    return (outputs * sizes).sum((1, 2)) * (1 + labels)


def network(huge: float, seed: int) -> nn.Module:
    """A network whose first layer, frozen, blows positions up to huge numbers of opposite sign."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH))
    model[0].weight.requires_grad_(False).mul_(huge)
    return model


def cancelling(count: int, seed: int, rest: float = 1e-6) -> Records:
    """Records [STEPS, WIDTH] whose positions sum to something small beside each."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(count, STEPS // 2, WIDTH, generator=generator)
    features = torch.cat([half, -half], dim=1) + rest * torch.randn(count, STEPS, WIDTH, generator=generator)
    return Records(features, torch.arange(count) % 3)


def moves(engine: BookKeepingEngine, records: Records) -> list[float]:
    """How far each record moves the sum of all."""
    whole = engine.clipped_sum(records)
    keeps = [np.arange(len(records)) != row for row in range(len(records))]
    return [float(np.linalg.norm(whole - engine.clipped_sum(records.select(keep)))) for keep in keeps]


@examples
@example(huge=1e6, count=8, seed=0, rest=3e-8)
@given(
    huge=st.sampled_from([1.0, 1e2, 1e4, 1e6, 1e9, 1e15]),
    count=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    rest=st.sampled_from([1e-6, 3e-8]),
)
def test_terms_that_cancel_move_a_sum_by_the_clip_norm_at_most(
    huge: float, count: int, seed: int, rest: float
) -> None:
    assert not outer.is_instantiated(STEPS, 1, WIDTH, WIDTH)
    engine = BookKeepingEngine(network(huge, seed), CLIP, linear_loss, rows=32)
    assert max(moves(engine, cancelling(count, seed, rest))) <= CLIP * SLACK


def test_without_clipping_them_alone_such_terms_pass_the_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same measure as above, with records whose terms cancel summed together with others."""
    monkeypatch.setattr(clipping, "CANCELLATION", np.inf)
    engine = BookKeepingEngine(network(1e6, 0), CLIP, linear_loss, rows=32)
    assert max(moves(engine, cancelling(8, 0, rest=3e-8))) > CLIP * SLACK


@pytest.mark.parametrize("huge", [1e2, 1e4, 1e6])
def test_the_norm_of_a_sum_that_cancels_is_that_of_float64(huge: float) -> None:
    generator = torch.Generator().manual_seed(0)
    half = huge * torch.randn(3, 1, 2, 64, generator=generator)
    inputs = torch.cat([half, -half], dim=2) + torch.randn(3, 1, 4, 64, generator=generator)
    gradients = torch.randn(3, 1, 1, 64, generator=generator).expand(3, 1, 4, 64)
    products = outer.OuterProducts(inputs, gradients)
    exact = torch.matmul(gradients.double().transpose(2, 3), inputs.double()).flatten(1).norm(dim=1).square()
    assert not products.is_instantiated
    assert torch.allclose(products.squared_norms, exact, rtol=1e-16 * huge**2 * 1e3, atol=0)
    assert (products.squared_norm_bounds.sqrt() > huge).all()


def test_a_sum_that_cancels_to_nothing_has_no_negative_norm() -> None:
    torch.manual_seed(0)
    half, gradients = 1e6 * torch.randn(50, 1, 2, 64), torch.randn(50, 1, 1, 64).expand(50, 1, 4, 64)
    squares = outer.OuterProducts(torch.cat([half, -half], dim=2), gradients).squared_norms
    assert (squares >= 0).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["cnn", "cnn-large", "mlp", "logistic"])
def test_a_record_that_is_not_finite_counts_as_zero(name: str, poison: float) -> None:
    """And the others beside it count as without it."""
    torch.manual_seed(0)
    records = Records(torch.randn(10, 1, 18, 18), torch.arange(10) % 3)
    records.features[4, 0, 9] = poison
    engine = BookKeepingEngine(build(name, (1, 18, 18), 3, seed=0), CLIP, rows=32)
    spoilt, rest = engine.clipped_sum(records), engine.clipped_sum(records.select(np.arange(10) != 4))
    bound = CLIP if poison == 3e38 else 1e-5 * CLIP
    assert np.isfinite(spoilt).all()
    assert np.linalg.norm(spoilt - rest) <= bound * SLACK
    assert np.linalg.norm(rest) > 0.1 * CLIP


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4, 1e10, 1e15, 1e19, 1e25, 1e38])
@pytest.mark.parametrize("name", ["cnn", "cnn-large", "mlp"])
def test_records_of_any_size_move_a_sum_by_at_most_the_clip_norm(name: str, scale: float) -> None:
    torch.manual_seed(1)
    records = Records(scale * torch.randn(5, 1, 18, 18), torch.arange(5) % 3)
    engine = BookKeepingEngine(build(name, (1, 18, 18), 3, seed=0), CLIP, rows=32)
    assert max(moves(engine, records)) <= CLIP * SLACK


@pytest.mark.parametrize("clip", [1e-30, 1e-6, 1e15, 1e38])
@pytest.mark.parametrize("huge", [1e-3, 1.0, 1e4])
def test_extreme_clip_norms_are_kept(clip: float, huge: float) -> None:
    model = build("cnn-large", (1, 18, 18), 3, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(huge)
    records = Records(torch.randn(5, 1, 18, 18), torch.arange(5) % 3)
    found = moves(BookKeepingEngine(model, clip, rows=32), records)
    assert max(found) <= clip * SLACK
    assert np.isfinite(found).all()


def test_a_batch_of_nothing_but_spoilt_records_gives_zeros() -> None:
    records = Records(torch.full((3, 1, 18, 18), np.nan), torch.zeros(3, dtype=torch.int64))
    found = BookKeepingEngine(build("cnn-large", (1, 18, 18), 3, seed=0), CLIP, rows=32).clipped_sum(records)
    assert np.array_equal(found, np.zeros(len(found)))
