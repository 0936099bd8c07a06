"""The lab itself: with an honest server the round opens to the exact sum, or no attack would prove anything."""

from __future__ import annotations

import numpy as np
import pytest
from secure_devices import make_lab


@pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_round_of_an_honest_server_opens_to_the_sum(exchange: str, mode: str, late: int) -> None:
    server = make_lab(5, aggregation={"key_exchange": exchange, "mode": mode})
    server.until("shares")
    alive = server.everyone[late:]
    sent = server.train(alive)
    signed = {"signatures": server.consent(alive)} if mode == "malicious-server" else {}
    assert np.array_equal(server.opened(sent, server.unmask(alive, **signed)), server.true(alive))
