"""Masks: an AES-256 keystream, added to the words of a vector.

The format is AES-256 in counter mode (NIST SP 800-38A, 6.5). The first counter block is the twelve bytes `PURPOSE`
and the number 2, big-endian; words are little-endian. AES-GCM of zeros under the nonce `PURPOSE` gives the same
stream (NIST SP 800-38D, 7.1), and is faster where OpenSSL has vector code for it, so the faster of the two is used.
GCM's tag is never computed. The keystreams of `bract.privacy.noise.keystream` have counters from zero, so the two
streams share no counter block even if a key were used for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from ..derive import KEY_BYTES
from ..encoding.ring import Words

PURPOSE = b"secagg masks"
"""The upper twelve bytes of every counter block."""

CHUNK_BYTES = 1 << 17
"""Bytes of keystream that are computed at once, so that they are added while in the cache."""

MOST_BYTES = 2**36 - 32
"""The longest stream of one key: GCM's limit."""

AT_ONCE = 64
"""Streams that are open at the same time."""


@dataclass(frozen=True, repr=False)
class Mask:
    """The secret key of a mask, 32 bytes, and its sign: +1 if the stream is added, -1 if it is subtracted."""

    key: bytes
    sign: int = 1

    def __repr__(self) -> str:
        return "Mask(secret)"


def add_masks(words: Words, masks: Sequence[Mask]) -> None:
    """Add every mask to `words`, uint64 [words], in place, modulo 2^64.

    Guarantee: to everybody who does not know the key of some mask, the words are indistinguishable from uniformly
    random ones, if AES-256 is a pseudorandom permutation. A key must mask only one vector.

    Raises:
        ValueError: a key does not have 32 bytes, or the vector has more than 2^36 - 32 bytes.
    """
    if words.nbytes > MOST_BYTES or any(len(mask.key) != KEY_BYTES for mask in masks):
        raise ValueError("expected keys of 32 bytes and at most 2^36 - 32 bytes to mask")
    stream = fastest_stream()
    for first in range(0, len(masks), AT_ONCE):
        _add([(stream(mask.key), mask.sign) for mask in masks[first : first + AT_ONCE]], words)


def _add(streams: Sequence[tuple[CipherContext, int]], words: Words) -> None:
    zeros, buffer = bytes(CHUNK_BYTES), np.empty(CHUNK_BYTES // 8, dtype="<u8")
    for start in range(0, len(words), len(buffer)):
        part = words[start : start + len(buffer)]
        keystream, blank = buffer[: len(part)], memoryview(zeros)[: part.nbytes]
        target = keystream.data.cast("B")
        for stream, sign in streams:
            stream.update_into(blank, target)
            (np.add if sign > 0 else np.subtract)(part, keystream, out=part)


def gcm_stream(key: bytes) -> CipherContext:
    """Return the mask stream of a key by GCM, which encrypts zeros."""
    return Cipher(algorithms.AES(key), modes.GCM(PURPOSE)).encryptor()


def ctr_stream(key: bytes) -> CipherContext:
    """Return the mask stream of a key by CTR, which encrypts zeros."""
    return Cipher(algorithms.AES(key), modes.CTR(PURPOSE + (2).to_bytes(4))).encryptor()


@lru_cache(maxsize=1)
def fastest_stream() -> Callable[[bytes], CipherContext]:
    """Return the faster of `gcm_stream` and `ctr_stream`, by a benchmark of a millisecond.

    If their streams ever differ, it is `ctr_stream`, which defines the format.
    """
    blank, streams = bytes(1 << 16), (gcm_stream, ctr_stream)
    made = [stream(bytes(KEY_BYTES)).update(blank) for stream in streams]
    return min(streams, key=lambda stream: _seconds(stream, blank)) if made[0] == made[1] else ctr_stream


def _seconds(stream: Callable[[bytes], CipherContext], blank: bytes) -> float:
    opened, trials = stream(bytes(KEY_BYTES)), list[float]()
    for _ in range(8):
        began = time.perf_counter()
        opened.update(blank)
        trials.append(time.perf_counter() - began)
    return min(trials)
