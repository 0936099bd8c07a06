"""Recurrent networks in which last bits grow without bound: a record still moves a sum by the clip norm at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.determinism import batch_invariant_rows
from bract.client.records import Records
from bract.models.networks.rnn import LastState

CLIP, SLACK, STEPS = 0.7, 1 + 1 / 1024, 40
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
}


def network(kind: str, units: int, gain: float, seed: int) -> nn.Module:
    """A network whose recurrent weights are so many times those that keep a state's length."""
    torch.manual_seed(seed)
    make, options = KINDS[kind]
    layer = make(2, units, batch_first=True, **options)
    with torch.no_grad():
        nn.init.normal_(layer.weight_hh_l0, std=gain / units**0.5)
    return nn.Sequential(LastState(layer), nn.Linear(units, 3))


def farthest(model: nn.Module, records: Records) -> float:
    """How far a record moves the sum of all, at most."""
    engine = BookKeepingEngine(model, CLIP, rows=batch_invariant_rows(32))
    whole, keeps = engine.clipped_sum(records), [np.arange(len(records)) != row for row in range(len(records))]
    return max(float(np.linalg.norm(whole - engine.clipped_sum(records.select(keep)))) for keep in keeps)


def records_of(count: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.randn(count, STEPS, 2, generator=generator), torch.arange(count) % 3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    units=st.sampled_from([1, 3, 16, 32, 37, 70]),
    gain=st.sampled_from([0.5, 1.5, 4.0, 30.0, 1e4]),
    count=st.integers(2, 40),
    seed=st.integers(0, 2**31),
)
def test_a_record_moves_a_sum_by_at_most_the_clip_norm(
    kind: str, units: int, gain: float, count: int, seed: int
) -> None:
    assert farthest(network(kind, units, gain, seed), records_of(count, seed)) <= CLIP * SLACK


def test_a_last_bit_that_depends_on_the_row_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the records in even places moved by a last bit, as by a kernel that takes what is left over by itself."""
    right = BookKeepingEngine.clipped_sum

    def uneven(engine: BookKeepingEngine, batch: Records) -> Any:
        moved = batch.features.clone()
        moved[::2] *= 1 + 2.0**-23
        return right(engine, Records(moved, batch.labels))

    monkeypatch.setattr(BookKeepingEngine, "clipped_sum", uneven)
    assert farthest(network("tanh", 32, 4.0, 2), records_of(12, 2)) > 2 * CLIP
