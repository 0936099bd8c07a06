"""Secret randomness: bytes, words and uniform numbers from an AES-256 keystream.

The key comes from the operating system, a fresh one for every use. (Simulations can derive keys from a seed; no
deployment imports that code.) Counter blocks start at zero. The counter blocks of masks
(`bract.privacy.secagg.masks`) start with the name of their purpose, so the two never coincide.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 32

ZEROS = memoryview(bytes(1 << 18))
"""The plaintext for up to 2^18 bytes of keystream. A new buffer for each call would take longer than the cipher."""


class Keystream:
    """AES-256 in counter mode from counter zero (NIST SP 800-38A, 6.5), under a secret key of 32 bytes.

    Each draw continues the stream, so two keystreams of one key agree only if their draws are the same.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream key has {KEY_BYTES} bytes")
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "Keystream(secret)"

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes, secret."""
        return self._cipher.update(ZEROS[:count] if count <= len(ZEROS) else bytes(count))

    def fill(self, words: NDArray[np.uint64]) -> None:
        """Fill a contiguous array [count] with the next words, uniform over 0..2^64-1, secret; nothing is copied."""
        into = words.data.cast("B")
        for start in range(0, len(into), len(ZEROS)):
            part = into[start : start + len(ZEROS)]
            self._cipher.update_into(ZEROS[: len(part)], part)
        if sys.byteorder == "big":
            words.byteswap(inplace=True)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` words, shape [count], uniform over 0..2^64-1, secret."""
        return np.frombuffer(self.bytes(8 * count), dtype="<u8")

    def half_words(self, count: int) -> NDArray[np.uint32]:
        """Return the next `count` half words, shape [count], uniform over 0..2^32-1, secret."""
        return np.frombuffer(self.bytes(4 * count), dtype="<u4")

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers, shape [count], uniform over (0, 1], in steps of 2^-64 near zero, secret."""
        return (self.words(count).astype(np.float64) + 1.0) * 2.0**-64


class Entropy(Protocol):
    """A source of keystreams."""

    def keystream(self, *purpose: str | int) -> Keystream:
        """Return the keystream of one purpose, such as `("noise", 7)` for the noise of round 7."""
        ...


class SystemEntropy:
    """The entropy of devices and servers: a fresh key from the operating system at every call."""

    def keystream(self, *purpose: str | int) -> Keystream:
        """Return a keystream under a fresh key; the purpose is a label for the reader only."""
        del purpose
        return Keystream(os.urandom(KEY_BYTES))
