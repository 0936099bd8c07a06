"""The hash and the key derivation of the protocol: an unambiguous digest, and HKDF-SHA256."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"bract secagg 2"
KEY_BYTES = 32


def digest(label: str, *parts: bytes | int) -> bytes:
    """Return the SHA-256 of version, label and parts, each after its length.

    Lengths and numbers are 8 bytes, big-endian and unsigned.

    >>> digest("a", b"b", 1).hex()[:16]
    'd3d7caec74855480'
    """
    hashed = hashlib.sha256()
    for part in (VERSION, label.encode(), *parts):
        data = part.to_bytes(8) if isinstance(part, int) else part
        hashed.update(len(data).to_bytes(8) + data)
    return hashed.digest()


def derive(secret: bytes, salt: bytes, label: str, *parts: bytes, length: int = KEY_BYTES) -> bytes:
    """Return `length` secret bytes from a secret and a salt, by HKDF-SHA256 (RFC 5869).

    Its info is the `digest` of label and parts, so two different uses give independent bytes.
    """
    return HKDF(hashes.SHA256(), length, salt, digest(label, *parts)).derive(secret)
