"""A study's randomness: one key for each seed and purpose, of the full length."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from bract.simulations.seeded import SeededEntropy


def test_a_stream_is_the_ciphers_under_a_whole_digest() -> None:
    """A known answer, made here by the cipher and the hash alone."""
    key = hashlib.sha256(b"bract simulation\x1f7\x1fdevice\x1f3\x1fnoise").digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(64))
    assert SeededEntropy(7).keystream("device", 3, "noise").bytes(64) == stream


def test_every_bit_of_a_key_depends_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 64 seeds each of 256 bits is both 0 and 1: a false alarm has a chance of 512 / 2^64."""
    keys: list[bytes] = []
    monkeypatch.setattr("bract.simulations.seeded.Keystream", keys.append)
    for seed in range(64):
        SeededEntropy(seed).keystream("noise")
    bits = np.unpackbits(np.frombuffer(b"".join(keys), dtype=np.uint8)).reshape(64, 256)
    assert ((bits.sum(axis=0) > 0) & (bits.sum(axis=0) < 64)).all()


@given(st.integers(0, 2**63), st.integers(33, 62))
def test_seeds_that_differ_in_a_high_bit_have_other_streams(seed: int, bit: int) -> None:
    one, other = (SeededEntropy(number).keystream("noise").bytes(16) for number in (seed, seed ^ (1 << bit)))
    assert one != other


def test_purposes_that_read_alike_when_joined_have_other_streams() -> None:
    entropy = SeededEntropy(1)
    assert entropy.keystream("a", "b").bytes(16) != entropy.keystream("ab").bytes(16)
    assert entropy.keystream("a", 12).bytes(16) != entropy.keystream("a1", 2).bytes(16)
