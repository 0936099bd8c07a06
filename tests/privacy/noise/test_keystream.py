"""The keystream: published blocks, and the numbers that are drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from bract.privacy import Keystream, SystemEntropy

KEYS = [bytes(32), bytes(range(32)), bytes.fromhex("ff" * 32)]
ALARM = 1e-6
"""False-alarm rate of each statistical check under the keys fixed here, had they been drawn at random."""


def blocks(key: bytes, count: int) -> bytes:
    """The keystream by another route: AES of the counters 0, 1, 2, ... one block at a time."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return b"".join(cipher.update(i.to_bytes(16, "big")) for i in range(count))


class Fixed(Keystream):
    """A keystream whose words are given."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(bytes(32))
        self.given = words

    def words(self, count: int) -> np.ndarray:
        assert count == len(self.given)
        return np.array(self.given, dtype=np.uint64)


def test_first_block_of_the_zero_key_is_the_published_one() -> None:
    """AES-256 of the zero block under the zero key: H of test case 13 in McGrew and Viega's GCM specification."""
    assert Keystream(bytes(32)).bytes(16).hex() == "dc95c078a2408989ad48a21492842087"


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_is_aes_256_of_the_counters_from_zero(key: bytes) -> None:
    assert Keystream(key).bytes(16 * 300) == blocks(key, 300)


@given(st.lists(st.integers(0, 50), max_size=12))
def test_draws_of_any_lengths_continue_one_another(lengths: list[int]) -> None:
    stream = Keystream(KEYS[1])
    assert b"".join(stream.bytes(n) for n in lengths) == Keystream(KEYS[1]).bytes(sum(lengths))


def test_words_are_little_endian_and_uniforms_scaled_words() -> None:
    """The bytes are read little-endian."""
    data = Keystream(KEYS[1]).bytes(80)
    expected = [int.from_bytes(data[i : i + 8], "little") for i in range(0, 80, 8)]
    assert Keystream(KEYS[1]).words(10).tolist() == expected
    assert Keystream(KEYS[1]).uniforms(10).tolist() == pytest.approx([(w + 1) / 2**64 for w in expected], rel=1e-15)


@pytest.mark.parametrize("count", [0, 1, 10, 1 << 15, (1 << 15) + 1, 3 << 15])
def test_filling_an_array_is_drawing_as_many_words(count: int) -> None:
    stream, other, filled = Keystream(KEYS[1]), Keystream(KEYS[1]), np.full(count + 2, 7, dtype=np.uint64)
    stream.fill(filled[1:-1])
    assert np.array_equal(filled[1:-1], other.words(count))
    assert filled[0] == filled[-1] == 7
    assert stream.bytes(5) == other.bytes(5)


def test_byte_order_of_the_machine_does_not_change_an_array(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An array is filled with the same numbers where bytes are the other way round."""
    monkeypatch.setattr("bract.privacy.noise.keystream.sys.byteorder", "big")
    filled = np.empty(10, dtype=np.uint64)
    Keystream(KEYS[1]).fill(filled)
    assert np.array_equal(filled, Keystream(KEYS[1]).words(10).byteswap())


def test_half_words_are_the_bytes_read_little_endian() -> None:
    data = Keystream(KEYS[1]).bytes(40)
    expected = [int.from_bytes(data[i : i + 4], "little") for i in range(0, 40, 4)]
    assert Keystream(KEYS[1]).half_words(10).tolist() == expected


def test_a_second_draw_repeats_nothing_of_the_first() -> None:
    stream = Keystream(KEYS[2])
    assert not set(stream.words(1000).tolist()) & set(stream.words(1000).tolist())


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(length))


def test_system_keys_differ_at_every_call() -> None:
    """Even for the same purpose."""
    entropy = SystemEntropy()
    assert len({entropy.keystream("noise", 7).bytes(16) for _ in range(1000)}) == 1000


def test_system_keys_are_32_bytes_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("bract.privacy.noise.keystream.os.urandom", lambda n: asked.append(n) or bytes(range(n)))
    assert SystemEntropy().keystream("noise").bytes(16) == blocks(bytes(range(32)), 1)
    assert asked == [32]


def test_repr_shows_nothing_of_the_key() -> None:
    assert repr(Keystream(KEYS[1])) == repr(Keystream(KEYS[2])) == "Keystream(secret)"
    assert not any(KEYS[1] in value for value in vars(Keystream(KEYS[1])).values() if isinstance(value, bytes))


def test_uniforms_lie_above_zero_and_at_most_at_one() -> None:
    """The extreme words give no other number."""
    edges = Fixed([0, 1, 2**53, 2**63, 2**64 - 1025, 2**64 - 1]).uniforms(6)
    assert edges[0] == 2.0**-64
    assert edges[-1] == 1.0
    assert np.all((edges > 0) & (edges <= 1))
    assert np.all(np.diff(edges) >= 0)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_uniforms_fill_100_cells_evenly(key: bytes) -> None:
    counts, _ = np.histogram(Keystream(key).uniforms(200_000), bins=100, range=(0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < chi2.isf(ALARM, 99)
