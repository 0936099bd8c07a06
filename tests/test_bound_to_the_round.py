"""What a review found: a scale that differs between devices, and a sum that wraps before its noise is in it."""

from __future__ import annotations

import numpy as np
import pytest

from bract.privacy import Keystream, Plan, Sum, make_plan, mechanism_of
from bract.privacy.messages import model_digest

COUNT = 500
CELLS = {"record": {}, "client": {"unit": "client", "sampling_rate": 1.0}}


def plan_of(unit: str, bits: int) -> Plan:
    privacy = {"noise_multiplier": 2.0, "epsilon": 1e6, **CELLS[unit]}
    tables = {"cohort": {"rounds": 1, "size": 4}, "data": {"clients": 4}, "training": {"batch_size": 8}}
    return make_plan({**tables, "privacy": privacy, "aggregation": {"bits": bits}}, Plan)


@pytest.mark.parametrize("bits", [32])
@pytest.mark.parametrize("unit", CELLS)
def test_a_sum_at_the_edge_of_the_ring_is_as_what_it_wraps_to(unit: str, bits: int) -> None:
    """One step decides between the two; the noise is added before it can show."""
    plan = plan_of(unit, bits)
    edge = np.full(COUNT, 1 << (bits - 1), dtype=np.int64)
    over = edge - (1 << bits)
    one, other = (mechanism_of(plan).release(Sum(total), 1, Keystream(bytes(32)))[0].vector for total in (edge, over))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("scale", [0.5, 2.0, 2.0**20])
def test_masks_are_bound_to_the_scale_of_the_clip_norm(scale: float) -> None:
    parameters = np.arange(5, dtype=np.float32)
    assert model_digest(parameters, scale) != model_digest(parameters, 1.0)
    assert model_digest(parameters, scale) != model_digest(parameters, scale * 2)
