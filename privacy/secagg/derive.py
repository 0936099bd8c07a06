"""What everything in the protocol is derived by: a digest that cannot be parsed two ways, and HKDF-SHA256."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"bract secagg 2"
KEY_BYTES = 32


def digest(label: str, *parts: bytes | int) -> bytes:
    """Return the SHA-256 of version, label and parts, each with its length before it; numbers as 8 bytes.

    Lengths and numbers are big-endian and unsigned.

    >>> digest("a", b"b", 1).hex()[:16]
    'd3d7caec74855480'
    """
    hashed = hashlib.sha256()
    for part in (VERSION, label.encode(), *parts):
        data = part.to_bytes(8) if isinstance(part, int) else part
        hashed.update(len(data).to_bytes(8) + data)
    return hashed.digest()


def derive(secret: bytes, salt: bytes, label: str, *parts: bytes, length: int = KEY_BYTES) -> bytes:
    """Return `length` secret bytes from a secret, by HKDF (RFC 5869) with SHA-256 and the salt.

    The label and parts are its info, as one `digest`, so that no two uses can give the same bytes.
    """
    return HKDF(hashes.SHA256(), length, salt, digest(label, *parts)).derive(secret)
