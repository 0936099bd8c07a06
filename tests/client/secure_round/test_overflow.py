"""Sums at the edge of the ring: whatever devices hold, the sum of a whole cohort does not wrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from devices import said_code
from secure_devices import make_lab

from bract.privacy.encoding.quantization import quantize
from bract.privacy.messages import SHARES, TRAIN
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.server_view import Code

COUNT = 51


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bits", [None, 12, 16, 21, 32, 64])
@pytest.mark.parametrize("devices", [2, 3, 9])
def test_a_cohort_of_saturated_vectors_sums_exactly(devices: int, bits: int | None, sign: int) -> None:
    given = {} if bits is None else {"bits": bits}
    server = make_lab(devices, aggregation={"protocol": "secagg", **given}, privacy={"noise_multiplier": 60.0})
    largest = quantize(np.full(COUNT, sign * 1e30), server.mechanism.grid.step, server.mechanism.grid.bound)
    assert set(largest) == {sign * server.mechanism.grid.bound}
    for member in server.members:
        member.vector[:] = largest
    sent = server.until("masked")
    total = server.opened(sent, server.unmask(range(devices)))
    assert np.array_equal(total, devices * largest)
    assert 0 < abs(int(total[0])) < 2 ** (server.mechanism.grid.ring.bits - 1)


@pytest.mark.parametrize("bits", [16, 32])
def test_saturated_vectors_do_not_touch_each_others_lanes(bits: int) -> None:
    """Vectors of both signs saturate."""
    server = make_lab(3, aggregation={"protocol": "secagg", "bits": bits})
    rng = np.random.default_rng(1)
    for member in server.members:
        member.vector[:] = server.mechanism.grid.bound * rng.choice([-1, 1], COUNT)
    sent = server.until("masked")
    assert np.array_equal(server.opened(sent, server.unmask(range(3))), server.true(range(3)))


def test_a_cohort_larger_than_the_ring_was_made_for_is_refused() -> None:
    server = make_lab(4, cohort={"size": 3})
    server.keys()
    larger = SeatedCohort(replace(server.session, planned=4), server.cohort.cards)
    assert said_code(server.tell(0, SHARES, cards=larger.seating(0).to_bytes())) is Code.MALFORMED
    fitting = SeatedCohort(server.session, server.cohort.cards[:3])
    server.section(server.tell(0, SHARES, cards=fitting.seating(0).to_bytes()), "sealed")


def test_a_device_adds_no_weight_of_its_own() -> None:
    server = make_lab(3)
    server.until("shares")
    for name in ("weight", "num_examples", "factor"):
        fresh = make_lab(3)
        fresh.until("shares")
        assert said_code(fresh.tell(0, TRAIN, cohort=fresh.invitation(0), **{name: b"\xff"})) is Code.MALFORMED
