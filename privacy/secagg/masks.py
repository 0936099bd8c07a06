"""Masks: AES-256 keystream, added to the words of a vector.

The format is AES-256 in counter mode (NIST SP 800-38A, 6.5) with a first counter block of the twelve bytes `PURPOSE`
and the number 2, big-endian; words are little-endian. AES-GCM of zeros under that nonce is the same stream (NIST SP
800-38D, 7.1), and faster where OpenSSL has vector code for it, so whichever is faster here makes it. GCM's tag
is never computed. No block of it is one of `bract.privacy.noise.keystream`, whose counter begins at zero: were a key
ever used for both, the two streams would still be as good as independent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from ..encoding.ring import Words
from .derive import KEY_BYTES

PURPOSE = b"secagg masks"
"""The upper twelve bytes of every counter block: what the stream is for."""

CHUNK_BYTES = 1 << 17
"""Keystream made at once: it is added while it is in the cache."""

MOST_BYTES = 2**36 - 32
"""The most that one key gives: GCM's limit."""

AT_ONCE = 64
"""Streams that are open at the same time."""


@dataclass(frozen=True, repr=False)
class Mask:
    """The key of a mask, 32 bytes, secret, and +1 or -1: whether its stream is added or taken away."""

    key: bytes
    sign: int = 1

    def __repr__(self) -> str:
        return "Mask(secret)"


def add_masks(words: Words, masks: Sequence[Mask]) -> None:
    """Add every mask to `words`, uint64 [words], in place, modulo 2^64.

    Guarantee: one mask whose key nobody knows makes the words uniformly random to everybody, as far as AES-256 is a
    pseudorandom permutation. A key must serve one vector only.

    Raises:
        ValueError: a key has not 32 bytes, or the vector has more than 2^36 - 32 bytes.
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
    """Return the mask stream of a key by GCM: encrypted zeros are the keystream."""
    return Cipher(algorithms.AES(key), modes.GCM(PURPOSE)).encryptor()


def ctr_stream(key: bytes) -> CipherContext:
    """Return the mask stream of a key by CTR: encrypted zeros are the keystream."""
    return Cipher(algorithms.AES(key), modes.CTR(PURPOSE + (2).to_bytes(4))).encryptor()


@lru_cache(maxsize=1)
def fastest_stream() -> Callable[[bytes], CipherContext]:
    """Return the faster of the two makers of the same stream, found by a trial of a millisecond.

    Should the two ever differ, the one that defines the format is taken.
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
