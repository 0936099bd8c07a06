"""Ed25519 identities of devices, and the roster of those that may take part, which never comes from the server."""

from __future__ import annotations

import base64
import binascii
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..derive import digest
from ..errors import DataError
from ..storage import read_owned, write_new

PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
NO_CERTIFICATE = bytes(SIGNATURE_BYTES)
MOST_KEY_BYTES, MOST_ROSTER_BYTES = 1 << 14, 1 << 22
"""The largest file of a key or a certificate, and of a roster (some 40,000 devices)."""

PRIME = 2**255 - 19
"""The field prime of Ed25519 (RFC 8032, 5.1)."""

CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = frozenset((0, 1, PRIME - 1, EIGHTH, PRIME - EIGHTH))
"""The y coordinates of all points whose order divides 8."""


@dataclass(frozen=True, repr=False)
class Identity:
    """A device's long-lived signing key, secret, and its certificate from an authority, if any."""

    key: Ed25519PrivateKey
    certificate: bytes = NO_CERTIFICATE

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes, as in a roster."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes, on a digest."""
        return self.key.sign(message)

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()[:8]})"


@dataclass(frozen=True)
class Roster:
    """The devices that may take part: the listed public keys, and all keys that the authority certified.

    `names` are the names of the keys in the roster's file, for a log.
    """

    devices: frozenset[bytes] = frozenset()
    authority: bytes | None = None
    names: Mapping[bytes, str] = field(default_factory=dict[bytes, str], compare=False)

    def admits(self, public: bytes, certificate: bytes) -> bool:
        """Whether the owner of this public key may take part."""
        if public in self.devices:
            return True
        return self.authority is not None and verified(self.authority, certificate, _certified(public))


def new_identity() -> Identity:
    """Return a fresh identity."""
    return Identity(Ed25519PrivateKey.generate())


def certify(authority: Identity, public: bytes) -> bytes:
    """Return an authority's certificate, 64 bytes, for a public key: every roster with this authority admits it."""
    return authority.sign(_certified(public))


def roster_of(identities: Iterable[Identity]) -> Roster:
    """Return the roster of exactly these identities."""
    return Roster(frozenset(identity.public for identity in identities))


def introduce(identity: Identity, run: int, plan: bytes) -> bytes:
    """Return a device's signature, 64 bytes, that it takes part in a run under a plan, given by its digest."""
    return identity.sign(digest("name", run, plan))


def introduces(public: bytes, signature: bytes, run: int, plan: bytes) -> bool:
    """Whether the owner of the public key signed that it takes part in this run under this plan."""
    return verified(public, signature, digest("name", run, plan))


def _certified(public: bytes) -> bytes:
    return digest("certificate", public)


@lru_cache(maxsize=1 << 14)
def verified(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this is a signature on the message under the public key; all three are public."""
    if not sound(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=1 << 14)
def sound(public: bytes) -> bool:
    """Whether these 32 bytes are a public key under which only the owner of the private key can sign.

    They must be the canonical encoding of a point on the curve whose order does not divide 8: for a point of small
    order, anybody can find a signature that is valid for many messages.

    Reference: RFC 8032, 5.1.3; Chalkias, Garillot, Nikolaenko 2020, "Taming the many EdDSAs", table 1.
    """
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if len(public) != PUBLIC_BYTES or y >= PRIME or y in SMALL_ORDER:
        return False
    like_x_squared = (
        (y * y - 1) * (CURVE_D * y * y + 1) % PRIME
    )  # x^2 is numerator / denominator, a square if and only if numerator * denominator is one
    return pow(like_x_squared, (PRIME - 1) // 2, PRIME) == 1


def read_identity(path: Path, certificate: Path | None = None) -> Identity:
    """Return the identity in a PEM file (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it).

    `certificate` is a file with an authority's certificate in base64.

    Raises:
        DataError: a file is missing or has other content, or users other than its owner can read the key.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise DataError(f"users other than its owner can read the identity {path}", f"type: chmod 600 {path}")
        key = serialization.load_pem_private_key(read_owned(path, MOST_KEY_BYTES), password=None)
        proof = NO_CERTIFICATE if certificate is None else _certificate(certificate)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise DataError(f"cannot read the identity {path}", "make one: see docs/deployment.md") from fault
    if not isinstance(key, Ed25519PrivateKey) or len(proof) != SIGNATURE_BYTES:
        raise DataError(f"the identity {path} is not an ed25519 key", "make one: see docs/deployment.md")
    return Identity(key, proof)


def _certificate(path: Path) -> bytes:
    """Return the certificate in a file of base64 lines, as `base64` or `openssl base64` writes them."""
    return _base64(b"".join(read_owned(path, MOST_KEY_BYTES).splitlines()))


def _base64(text: bytes) -> bytes:
    """Return the data of a base64 text.

    Raises:
        ValueError: the text is not the canonical base64 of its data, or has characters before, within or after it.
    """
    data = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(data, newline=False) != text:
        raise ValueError("not as base64 writes it")
    return data


def write_identity(path: Path, identity: Identity) -> None:
    """Write an identity to a new PEM file that only its owner can read; when this returns, it is on disk.

    Raises:
        FileExistsError: the file exists already.
    """
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_new(path, identity.key.private_bytes(encoding, form, serialization.NoEncryption()), private=True)


def public_text(public: bytes) -> str:
    """Return a public key as a roster lists it: the line that `openssl pkey -pubout` prints between its dashes."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(Ed25519PublicKey.from_public_bytes(public).public_bytes(encoding, form)).decode()


def read_roster(path: Path) -> Roster:
    """Return the roster in a TOML file with a table `devices` of names and public keys, a key `authority`, or both.

    Raises:
        DataError: the file is missing, is not a roster, or admits nobody.
    """
    hint = "list each device's public key under [devices], as docs/deployment.md shows"
    try:
        fields = tomllib.loads(read_owned(path, MOST_ROSTER_BYTES).decode("utf-8"))
        named = cast(dict[str, Any], fields.pop("devices", {}))
        authority = fields.pop("authority", None)
        names = {_public(text): name for name, text in named.items()}
        devices = frozenset(names)
        roster = Roster(devices, None if authority is None else _public(authority), names)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, UnsupportedAlgorithm) as fault:
        raise DataError(f"cannot read the roster {path}", hint) from fault
    if fields or len(devices) != len(named) or not (devices or authority):
        raise DataError(f"the roster {path} has unknown keys, a device twice, or nobody in it", hint)
    return roster


def _public(text: Any) -> bytes:
    key = serialization.load_der_public_key(_base64(text.encode("ascii")))
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("not an ed25519 key")
    public = key.public_bytes_raw()
    if public_text(public) != text or not sound(public):
        raise ValueError("not a key that only its owner can sign for")
    return public
