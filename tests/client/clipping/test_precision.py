"""Passes through a network in bfloat16, here on the processor: sums and what bounds them stay float32's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from devices import make_tiny_plan
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.engine import make_engine
from bract.client.clipping.errors import ClippingError
from bract.client.records import Records, precision_of
from bract.models import NETWORKS, build, objective_of

TEXT = ("gru-lm", "ngram", "ngram-client")
CASES = [(name, (6,) if name in TEXT else (1, 18, 18)) for name in NETWORKS] + [("attention", (6,))]
IN_FLOAT32 = {"rnn", "lstm", "logistic", "ngram", "ngram-client"}
"""Networks of recurrent layers and a head, or of counts, which stay in float32."""
CLIP, SLACK = 0.7, 1 + 1 / 1024


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_sums_are_nearly_float32s_and_are_clipped_as_well(
    made_for: Callable[..., tuple[nn.Module, torch.Tensor, torch.Tensor]], name: str, shape: tuple[int, ...]
) -> None:
    model, *pair = made_for(name, shape, 3)
    records, loss = Records(*pair), objective_of(name, shape).loss
    wide = make_engine(copy.deepcopy(model), 1e9, loss).clipped_sum(records)
    narrow = make_engine(copy.deepcopy(model), 1e9, loss, precision="bfloat16").clipped_sum(records)
    assert np.linalg.norm(narrow - wide) <= 0.1 * np.linalg.norm(wide)
    assert np.array_equal(narrow, wide) == (name in IN_FLOAT32)
    one = records.select(np.arange(len(records)) == 0)
    clip = float(np.linalg.norm(make_engine(copy.deepcopy(model), 1e9, loss).clipped_sum(one))) / 2
    clipped = make_engine(model, clip, loss, precision="bfloat16").clipped_sum(one)
    assert clip * 0.99 < np.linalg.norm(clipped) <= clip * SLACK


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4, 1e15, 1e25, 1e38])
@pytest.mark.parametrize("name", ["cnn", "mlp", "attention", "autoencoder"])
def test_records_of_any_size_move_a_sum_by_at_most_the_clip_norm(name: str, scale: float) -> None:
    torch.manual_seed(1)
    model = build(name, (1, 18, 18), 3, seed=0)
    loss = objective_of(name, (1, 18, 18)).loss
    features = scale * torch.randn(5, 1, 18, 18)
    labels = features if name == "autoencoder" else torch.arange(5) % 3
    engine = BookKeepingEngine(model, CLIP, loss, rows=32, narrow=torch.bfloat16)
    records = Records(features, labels)
    whole = engine.clipped_sum(records)
    assert np.isfinite(whole).all()
    for row in range(5):
        rest = engine.clipped_sum(records.select(np.arange(5) != row))
        assert np.linalg.norm(whole - rest) <= CLIP * SLACK


def test_gradients_of_narrow_passes_are_summed_in_float32() -> None:
    """By hand for one layer: numbers rounded to bfloat16, products and sums of them in float32."""
    torch.manual_seed(0)
    model, record = nn.Sequential(nn.Linear(6, 4), nn.Flatten()), torch.randn(1, 6)

    def total(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return (outputs.float() * torch.tensor([1.0, 2.0, -3.0, 0.3])).sum(1)

    engine = BookKeepingEngine(model, 1e9, total, narrow=torch.bfloat16)
    found = engine.clipped_sum(Records(record, torch.zeros(1, dtype=torch.int64)))
    flow = torch.tensor([1.0, 2.0, -3.0, 0.3]).bfloat16().double()
    expected = torch.cat([torch.outer(flow, record[0].double()).flatten(), flow])
    assert np.allclose(found, expected.numpy(), rtol=1e-6)


def test_opacus_has_no_narrow_passes() -> None:
    with pytest.raises(ClippingError, match="in float32 only"):
        make_engine(nn.Linear(4, 4), 1.0, engine="opacus", precision="bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_plans_precision_is_that_of_a_gpu(precision: str) -> None:
    plan = make_tiny_plan(training={"precision": precision})
    assert precision_of(plan, torch.device("cpu")) == "float32"
    assert precision_of(plan, torch.device("cuda")) == precision


def test_a_module_without_a_rule_has_narrow_passes_too() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)
    model = nn.Sequential(encoder, nn.Flatten(), nn.Linear(8, 3))
    records = Records(torch.randn(9, 2, 4), torch.arange(9) % 3)
    narrow, full = (make_engine(model, 1e6, precision=kind).clipped_sum(records) for kind in ("bfloat16", "float32"))  # type: ignore[arg-type]
    assert 0 < np.linalg.norm(narrow - full) < 0.05 * np.linalg.norm(full)
