"""The streams that masks are cut from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Keystream
from bract.privacy.secagg import masks
from bract.privacy.secagg.masks import AT_ONCE, CHUNK_BYTES, Mask, add_masks, ctr_stream, fastest_stream, gcm_stream

CHUNK = CHUNK_BYTES // 8
SIZES = [0, 1, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5]
keys = st.binary(min_size=32, max_size=32)


def key(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def stream(secret: bytes, count: int) -> np.ndarray:
    """The mask as its format says, in one piece: a block cipher applied to counters from 2 beside their purpose."""
    block = Cipher(algorithms.AES(secret), modes.ECB()).encryptor()
    counters = b"".join(b"secagg masks" + i.to_bytes(4, "big") for i in range(2, 2 + -(-count // 2)))
    return np.frombuffer(block.update(counters), dtype="<u8")[:count]


@pytest.fixture(params=[gcm_stream, ctr_stream])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two makers of the stream is the faster here, both have their turn."""
    monkeypatch.setattr(masks, "fastest_stream", lambda: request.param)


@given(keys, st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_gcm_and_ctr_make_the_same_stream_however_it_is_cut(secret: bytes, cuts: list[int]) -> None:
    ctr, gcm = ctr_stream(secret), gcm_stream(secret)
    made = b"".join(ctr.update(bytes(cut)) for cut in cuts)
    assert b"".join(gcm.update(bytes(cut)) for cut in cuts) == made
    assert made == stream(secret, -(-len(made) // 8)).tobytes()[: len(made)]


@pytest.mark.parametrize("make", [gcm_stream, ctr_stream])
def test_masks_and_noise_of_one_key_have_nothing_in_common(
    make: Callable[[bytes], CipherContext],
) -> None:
    """They were one stream, two blocks apart. Of 2^13 blocks each no two are equal: false alarm 2^-100. And the bits
    of one at any such distance agree with those of the other as often as a coin says, within 6 deviations.
    """
    count = 1 << 13
    masks, noise = make(key(1)).update(bytes(16 * count)), Keystream(key(1)).bytes(16 * count)
    cut = [{data[at : at + 16] for at in range(0, len(data), 16)} for data in (masks, noise)]
    assert len(cut[0] | cut[1]) == 2 * count
    bits = [np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(np.int64) for data in (masks, noise)]
    for blocks in range(-4, 5):
        one, other = bits[0][max(0, 128 * blocks) :], bits[1][max(0, -128 * blocks) :]
        size = min(len(one), len(other))
        agree = int(np.count_nonzero(one[:size] == other[:size]))
        assert abs(agree - size / 2) < 6 * size**0.5 / 2


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("size", SIZES)
def test_a_mask_is_the_stream_whatever_the_length_of_the_vector(size: int) -> None:
    words = np.zeros(size, dtype=np.uint64)
    add_masks(words, [Mask(key(1), 1)])
    assert np.array_equal(words, stream(key(1), size))


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("size", SIZES)
def test_masks_are_added_or_taken_by_their_sign_modulo_a_word(size: int) -> None:
    start = np.arange(size, dtype=np.uint64) * np.uint64(2**63 + 12345)
    words = start.copy()
    add_masks(words, [Mask(key(1), 1), Mask(key(2), -1), Mask(key(3), -1)])
    assert np.array_equal(words, start + stream(key(1), size) - stream(key(2), size) - stream(key(3), size))
    add_masks(words, [Mask(key(3), 1), Mask(key(1), -1), Mask(key(2), 1)])
    assert np.array_equal(words, start)


@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 2])
def test_no_mask_is_lost_where_more_are_added_than_are_open(count: int) -> None:
    """Only so many ciphers are open at once."""
    size = CHUNK + 3
    signed = [Mask(key(i), 1 if i % 3 else -1) for i in range(count)]
    words, expected = np.full(size, 7, dtype=np.uint64), np.full(size, 7, dtype=np.uint64)
    add_masks(words, signed)
    for secret, sign in ((mask.key, mask.sign) for mask in signed):
        expected += stream(secret, size) * np.uint64(sign % 2**64)
    assert np.array_equal(words, expected)


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """Before any mask is added."""
    words = np.zeros(4, dtype=np.uint64)
    with pytest.raises(ValueError, match="keys of 32 bytes"):
        add_masks(words, [Mask(key(1), 1), Mask(bytes(length), 1)])
    assert not words.any()


def test_a_vector_longer_than_a_key_may_serve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert masks.MOST_BYTES == 2**36 - 32
    monkeypatch.setattr(masks, "MOST_BYTES", 32)
    add_masks(np.zeros(4, dtype=np.uint64), [Mask(key(1), 1)])
    with pytest.raises(ValueError, match="bytes to mask"):
        add_masks(np.zeros(5, dtype=np.uint64), [Mask(key(1), 1)])


@pytest.fixture
def untried() -> Iterator[None]:
    fastest_stream.cache_clear()
    yield
    fastest_stream.cache_clear()


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("winner", [gcm_stream, ctr_stream])
def test_the_faster_maker_is_taken(monkeypatch: pytest.MonkeyPatch, winner: object) -> None:
    monkeypatch.setattr(masks, "_seconds", lambda maker, blank: 1.0 if maker is winner else 2.0)
    assert fastest_stream() is winner


@pytest.mark.usefixtures("untried")
def test_should_the_two_ever_differ_the_format_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(secret: bytes) -> object:
        return Cipher(algorithms.AES(secret), modes.CTR(bytes(16))).encryptor()

    monkeypatch.setattr(masks, "gcm_stream", other)
    monkeypatch.setattr(masks, "_seconds", lambda maker, blank: 1.0 if maker is other else 2.0)
    assert fastest_stream() is ctr_stream


def test_a_masked_vector_has_evenly_spread_bits() -> None:
    """Each bit is set in half of 2^16 words, within 6 deviations. The key is fixed: at random 1e-7 would fail."""
    words = np.zeros(1 << 16, dtype=np.uint64)
    add_masks(words, [Mask(key(9), 1)])
    ones = np.array([np.count_nonzero(words >> np.uint64(bit) & np.uint64(1)) for bit in range(64)])
    assert np.abs(ones - 2**15).max() < 6 * 2**7


def test_a_mask_prints_no_key(holds_secret: Callable[[Any, list[bytes]], bool]) -> None:
    assert not holds_secret([Mask(key(1))], [key(1)])
