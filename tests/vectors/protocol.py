"""The format of secure aggregation, written a second time: from its description, without bract's code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from primitives import hkdf, mlkem_encapsulate, mlkem_public, x25519

PRIME = 2**256 + 297
MASKS = int.from_bytes(b"secagg masks" + (2).to_bytes(4, "big"), "big")
Entry = dict[str, Any]


def given(name: str) -> bytes:
    """32 bytes that stand for something random."""
    return hashlib.sha256(f"bract test vector: {name}".encode()).digest()


def number(name: str) -> int:
    return int.from_bytes(given(name), "big")


def digest(label: str, *parts: bytes | int) -> bytes:
    data = b""
    for part in (b"bract secagg 2", label.encode(), *parts):
        written = part.to_bytes(8, "big") if isinstance(part, int) else part
        data += len(written).to_bytes(8, "big") + written
    return hashlib.sha256(data).digest()


def derive(secret: bytes, salt: bytes, label: str, *parts: bytes, length: int = 32) -> bytes:
    return hkdf(secret, salt, digest(label, *parts), length)


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def aes_ctr(key: bytes, counter: int, count: int) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor().update(bytes(count))


def to_words(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def from_words(words: Iterable[int]) -> str:
    return b"".join((word % 2**64).to_bytes(8, "little") for word in words).hex()


def pack_lanes(vector: Sequence[int], bits: int) -> list[int]:
    size = math.ceil(len(vector) / (64 // bits))
    words = [0] * size
    for i, x in enumerate(vector):
        words[i % size] += x << bits * (i // size)
    return [word % 2**64 for word in words]


def bits_of(members: Iterable[int], devices: int) -> bytes:
    data = bytearray(math.ceil(devices / 8))
    for member in members:
        data[member // 8] |= 1 << member % 8
    return bytes(data)


def share(secret: bytes, coefficients: Sequence[int], point: int) -> bytes:
    terms = (c * point ** (power + 1) for power, c in enumerate(coefficients))
    return ((int.from_bytes(secret, "big") + sum(terms)) % PRIME).to_bytes(33, "big")


def coefficients(name: str, threshold: int) -> list[int]:
    return [number(f"{name} coefficient {power}") * 2 % PRIME for power in range(1, threshold)]


def elements(numbers: Sequence[int]) -> list[str]:
    return [x.to_bytes(33, "big").hex() for x in numbers]


@dataclass
class Keys:
    """A key pair of a round: X25519 and ML-KEM-768 from one secret."""

    secret: bytes

    def __post_init__(self) -> None:
        self.x = derive(self.secret, b"", "x25519")
        self.seed = derive(self.secret, b"", "ml-kem-768", length=64)

    def public(self, hybrid: bool) -> bytes:
        return x25519(self.x) + (mlkem_public(self.seed) if hybrid else b"")


@dataclass
class Device:
    """A device of a round, with all that it draws at random."""

    name: str
    session: bytes
    hybrid: bool
    certificate: bytes = bytes(64)
    card: bytes = b""

    def __post_init__(self) -> None:
        self.signing = given(f"{self.name} identity")
        self.key = Ed25519PrivateKey.from_private_bytes(self.signing)
        self.identity = self.key.public_key().public_bytes_raw()
        self.mask, self.channel = Keys(given(f"{self.name} mask")), Keys(given(f"{self.name} channel"))
        self.own = given(f"{self.name} own")
        self.mask_public, self.channel_public = self.mask.public(self.hybrid), self.channel.public(self.hybrid)
        keys, committed = self.mask_public + self.channel_public, digest("own", self.own)
        shown = digest("card", self.session, self.identity, keys, committed)
        self.card = self.identity + keys + committed + self.certificate + self.key.sign(shown)

    def secrets(self) -> Entry:
        named = {"identity": self.signing, "mask": self.mask.secret, "own": self.own, "channel": self.channel.secret}
        return {name: secret.hex() for name, secret in named.items()}


def channel_key(a: Device, b: Device, sender: Device, receiver: Device, kem: bytes) -> bytes:
    salt = digest("channel", a.session, sender.card, receiver.card)
    return derive(x25519(a.channel.x, b.channel_public[:32]) + kem, salt, "seal")


def contribution(low: Device, high: Device) -> bytes:
    return derive(low.mask.secret, low.session, "contribution", high.identity)


def sealed_box(sender: Device, receiver: Device, shares: bytes) -> tuple[bytes, list[str]]:
    """The box with the hashes of its shares, and the messages of the encapsulations in it."""
    kem, ahead, drawn = b"", b"", list[str]()

    def encapsulate(public: bytes, use: str) -> tuple[bytes, bytes]:
        message = given(f"{sender.name} to {receiver.name} {use}")
        drawn.append(message.hex())
        return mlkem_encapsulate(public[32:], message)

    if sender.hybrid:
        kem, ahead = encapsulate(receiver.channel_public, "channel")
        if sender.identity < receiver.identity:
            inner, carrier = encapsulate(receiver.mask_public, "mask")
            pad = derive(inner, sender.session, "wrap", receiver.identity)
            ahead += carrier + xor(contribution(sender, receiver), pad)
    key = channel_key(sender, receiver, sender, receiver, kem)
    return ahead + ChaCha20Poly1305(key).encrypt(bytes(12), shares, ahead) + share_hashes(
        sender, receiver, shares
    ), drawn


def share_hashes(sender: Device, receiver: Device, shares: bytes) -> bytes:
    parts = zip((b"own", b"mask"), (shares[:33], shares[33:]), strict=True)
    ends = sender.session, sender.identity, receiver.identity
    return b"".join(digest("share", *ends, kind, piece) for kind, piece in parts)


def pair_key(a: Device, b: Device, context: bytes) -> bytes:
    low, high = (a, b) if a.identity < b.identity else (b, a)
    given_by_low = contribution(low, high) if low.hybrid else b""
    shared = x25519(a.mask.x, b.mask_public[:32])
    return derive(shared + given_by_low, context, "pair", low.identity, high.identity)


def own_key(a: Device, context: bytes) -> bytes:
    return derive(a.own, context, "own", a.identity)


def masked(device: Device, peers: Sequence[Device], words: Sequence[int], context: bytes) -> list[int]:
    signed = [(own_key(device, context), 1)]
    signed += [(pair_key(device, peer, context), 1 if device.identity < peer.identity else -1) for peer in peers]
    total = list(words)
    for key, sign in signed:
        stream = to_words(aes_ctr(key, MASKS, 8 * len(words)))
        total = [(word + sign * mask) % 2**64 for word, mask in zip(total, stream, strict=True)]
    return total


def hypergeometric(n: int, marked: int, drawn: int, hits: Iterable[int]) -> Fraction:
    """The exact probability that so many of `drawn` out of n are marked."""
    ways = (math.comb(marked, h) * math.comb(n - marked, drawn - h) for h in hits if h <= drawn)
    return Fraction(sum(ways), math.comb(n, drawn))


def sparse_graph(n: int, bad: int, gone: int) -> tuple[int, int]:
    """The least degree, and the least threshold for it, of `n` devices with `bad` colluders and `gone` dropouts."""
    private, finish = Fraction(1, 2**41), Fraction(1, 2**20)
    for k in range(2, n - 1, 2):
        t = next(t for t in range(1, k + 2) if n * hypergeometric(n, bad, k, range(t, k + 1)) <= private)
        lost = bad + gone
        ways = math.comb(n - k, lost - k) if lost >= k else 0
        cut = Fraction(n * (n - k - 1), 2) * Fraction(ways, math.comb(n, lost))
        if t <= k and cut <= private and n * hypergeometric(n, n - gone, k, range(t)) <= finish:
            return k, t
    raise ValueError("no graph")


def ring_neighbours(n: int, degree: int, seed: bytes, position: int) -> list[int]:
    words = to_words(aes_ctr(seed, 0, 8 * n))
    order = sorted(range(n), key=lambda i: (words[i], i))
    place = order.index(position)
    return sorted(order[(place + step) % n] for step in range(-degree // 2, degree // 2 + 1) if step)
