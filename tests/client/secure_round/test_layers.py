"""Layers of noise at the device: it gives up the seeds of those that the survivors it knows of do not need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from secure_devices import code_of, make_lab

from bract.privacy.mechanisms import distributed
from bract.privacy.mechanisms.dropout_noise import SEED_BYTES, layer_noise, split_seeds
from bract.privacy.messages import SECAGG, UNMASK
from bract.privacy.server_view import Code

DEVICES = 10
TABLES: dict[str, dict[str, Any]] = {
    "model": {"name": "tiny", "parameters": 51},
    "data": {"shape": [1, 2, 2], "classes": 3, "clients": DEVICES},
    "privacy": {"noise": "distributed", "shares": "xnoise"},
}


@pytest.fixture
def server() -> Any:
    """Ten devices, of which three may drop out, one after another."""
    server = make_lab(DEVICES, **TABLES)
    assert server.mechanism.numbers.withstood == (0, 1, 2, 3)
    return server


def seeds_of(server: Any, place: int) -> bytes:
    return bytes(server.members[place].context.state.config_records["bract.secagg.1"]["layers"])


@pytest.mark.parametrize(("gone", "given"), [(0, 3), (1, 2), (2, 1), (3, 0)])
def test_a_device_keeps_one_seed_for_each_dropout(server: Any, gone: int, given: int) -> None:
    """It gives up the last seeds."""
    server.until("shares")
    alive = range(gone, DEVICES)
    server.train(alive)
    seeds = seeds_of(server, 5)
    assert len(seeds) == 3 * SEED_BYTES
    reply = server.tell(5, UNMASK, survivors=server.bits(alive), **server.context_signatures(alive))
    sections = reply.content.config_records[SECAGG]
    assert bytes(sections.get("layers", b"")) == seeds[(3 - given) * SEED_BYTES :]


def test_a_device_gives_seeds_up_once_and_forgets_the_others(server: Any) -> None:
    server.until("masked")
    seeds = seeds_of(server, 5)
    server.unmask(range(1, DEVICES))
    reply = server.tell(5, UNMASK, survivors=server.bits(range(DEVICES)))
    assert code_of(reply) is Code.MALFORMED
    kept = server.members[5].context.state["bract.secagg.1"]["layers"]
    again = range(1, DEVICES)
    given = server.tell(5, UNMASK, survivors=server.bits(again), **server.context_signatures(again))
    assert kept == server.section(given, "layers")
    assert len(kept) < len(seeds)


def test_seeds_are_fresh_in_each_device_and_round(server: Any) -> None:
    server.until("masked")
    first = [seeds_of(server, place) for place in range(DEVICES)]
    every = [seed for seeds in first for seed in split_seeds(seeds)]
    assert len(set(every)) == 3 * DEVICES


def test_who_signed_one_list_gives_up_nothing_for_another() -> None:
    tables = TABLES | {"aggregation": {"protocol": "secagg", "mode": "malicious-server"}}
    server = make_lab(DEVICES, **tables)
    server.until("masked")
    signatures = server.consent(range(1, DEVICES))
    reply = server.tell(5, UNMASK, survivors=server.bits(range(DEVICES)), signatures=signatures)
    assert code_of(reply) is Code.REFUSED


def test_the_layers_are_in_the_vector_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real devices: what a sum without records holds beyond the layers of their seeds is the shares alone."""
    three = {"data": TABLES["data"] | {"clients": 3}, "aggregation": {"protocol": "secagg", "dropouts": 0.4}}
    server = make_lab(3, real=True, records=0, **TABLES | three)
    monkeypatch.setattr(distributed, "skellam", lambda variance, count, draws: np.zeros(count, dtype=np.int64))
    sent = server.until("masked")
    assert server.mechanism.numbers.withstood == (0, 1)
    seeds = [split_seeds(seeds_of(server, p)) for p in range(3)]
    count = server.mechanism.coordinates(51)
    expected = sum(layer_noise(server.mechanism.layers, s, count) for s in seeds)
    assert np.array_equal(server.opened(sent, server.unmask(range(3))), expected)
