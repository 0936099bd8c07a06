"""A device's keys of one round: the card with their public halves, and the keys that two devices agree on."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ..derive import KEY_BYTES, derive, digest
from ..messages import Malformed
from .identity import PUBLIC_BYTES, SIGNATURE_BYTES, Identity, Roster, verified

KEM_BYTES, CIPHERTEXT_BYTES = 1184, 1088
"""Sizes of an ML-KEM-768 public key and ciphertext (FIPS 203, table 3)."""


@dataclass(frozen=True, repr=False)
class Keypair:
    """An X25519 and an ML-KEM-768 key pair, both derived from one secret of 32 bytes."""

    secret: bytes

    @cached_property
    def x25519(self) -> X25519PrivateKey:
        """The X25519 key (RFC 7748)."""
        return X25519PrivateKey.from_private_bytes(derive(self.secret, b"", "x25519"))

    @cached_property
    def mlkem(self) -> MLKEM768PrivateKey:
        """The ML-KEM-768 key (FIPS 203), from its seed d || z."""
        return MLKEM768PrivateKey.from_seed_bytes(derive(self.secret, b"", "ml-kem-768", length=64))

    def public(self, hybrid: bool) -> PublicKeys:
        """Return the public half: 32 bytes, and 1,184 more if hybrid."""
        kem = self.mlkem.public_key().public_bytes_raw() if hybrid else b""
        return PublicKeys(self.x25519.public_key().public_bytes_raw(), kem)

    def exchange(self, public: PublicKeys) -> bytes:
        """Return the X25519 secret, 32 bytes, shared with the owner of a public key.

        Raises:
            Malformed: the public key is of low order.
        """
        try:
            return self.x25519.exchange(X25519PublicKey.from_public_bytes(public.x25519))
        except ValueError:
            raise Malformed("a key of low order") from None

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the secret in a KEM ciphertext; for another key's ciphertext it is random (implicit rejection)."""
        return self.mlkem.decapsulate(ciphertext)

    def __repr__(self) -> str:
        return "Keypair(secret)"


@dataclass(frozen=True)
class PublicKeys:
    """The public half of a `Keypair`; `mlkem` is empty where the plan's key exchange is not hybrid."""

    x25519: bytes
    mlkem: bytes = b""

    def encapsulate(self) -> tuple[bytes, bytes]:
        """Return a fresh secret, 32 bytes, and the ciphertext, 1,088 bytes, that carries it to the owner.

        Raises:
            Malformed: `mlkem` is not an ML-KEM public key.
        """
        try:
            return MLKEM768PublicKey.from_public_bytes(self.mlkem).encapsulate()
        except ValueError:
            raise Malformed("not an ml-kem key") from None

    def to_bytes(self) -> bytes:
        """The X25519 key and then the ML-KEM key."""
        return self.x25519 + self.mlkem


@dataclass(frozen=True, repr=False)
class RoundSecrets:
    """A device's three secrets of a round, 32 bytes each.

    `mask` derives the pair masks with other devices, `own` derives the device's own mask. After the round, other
    devices may open their shares of one of the two, never of both. `channel` seals these shares and is never opened.
    """

    mask: Keypair
    own: bytes
    channel: Keypair

    def __repr__(self) -> str:
        return "RoundSecrets(secret)"


def new_secrets() -> RoundSecrets:
    """Return fresh secrets from the operating system."""
    mask, own, channel = (secrets.token_bytes(KEY_BYTES) for _ in range(3))
    return RoundSecrets(Keypair(mask), own, Keypair(channel))


@dataclass(frozen=True)
class Card:
    """A device's public keys of one round, signed by its identity; `commitment` is to the secret of its own mask."""

    identity: bytes
    mask: PublicKeys
    channel: PublicKeys
    commitment: bytes
    certificate: bytes
    signature: bytes = b""

    def signed(self, session: bytes) -> bytes:
        """The digest that is signed; `session` is the session's digest."""
        return digest("card", session, self.identity, self._keys(), self.commitment)

    def to_bytes(self) -> bytes:
        """The bytes of the card: identity, mask keys, channel keys, commitment, certificate, signature."""
        return self.identity + self._keys() + self.commitment + self.certificate + self.signature

    def _keys(self) -> bytes:
        return self.mask.to_bytes() + self.channel.to_bytes()


def card_bytes(hybrid: bool) -> int:
    """The length of a card in bytes."""
    return PUBLIC_BYTES + 2 * _keys_bytes(hybrid) + KEY_BYTES + 2 * SIGNATURE_BYTES


def _keys_bytes(hybrid: bool) -> int:
    return 32 + KEM_BYTES * hybrid


@lru_cache(maxsize=1 << 12)
def read_card(data: bytes, hybrid: bool) -> Card:
    """Return the card that `Card.to_bytes` wrote.

    Raises:
        Malformed: the data have another length.
    """
    if len(data) != card_bytes(hybrid):
        raise Malformed("not a card")
    size, body = _keys_bytes(hybrid), data[PUBLIC_BYTES:]
    mask, channel = (PublicKeys(keys[:32], keys[32:]) for keys in (body[:size], body[size : 2 * size]))
    committed, proofs = body[2 * size : 2 * size + KEY_BYTES], body[2 * size + KEY_BYTES :]
    certificate, signature = proofs[:SIGNATURE_BYTES], proofs[SIGNATURE_BYTES:]
    return Card(data[:PUBLIC_BYTES], mask, channel, committed, certificate, signature)


def make_card(own: RoundSecrets, identity: Identity, session: bytes, hybrid: bool) -> Card:
    """Return the signed card of a device's public keys of a round."""
    mask, channel = own.mask.public(hybrid), own.channel.public(hybrid)
    card = Card(identity.public, mask, channel, commitment(own.own), identity.certificate)
    return replace(card, signature=identity.sign(card.signed(session)))


def genuine(card: Card, session: bytes, roster: Roster) -> bool:
    """Whether a card is signed for this session by a device that the roster admits."""
    signed = verified(card.identity, card.signature, card.signed(session))
    return signed and roster.admits(card.identity, card.certificate)


def usable(card: Card) -> bool:
    """Whether the card's keys are valid, so that other devices can agree on secrets with their owner."""
    trial = Keypair(bytes(KEY_BYTES))
    try:
        for keys in (card.mask, card.channel):
            trial.exchange(keys)
            if keys.mlkem:
                keys.encapsulate()
    except Malformed:
        return False
    return True


def channel_key(own: Keypair, other: PublicKeys, sender: Card, receiver: Card, session: bytes, kem: bytes) -> bytes:
    """Return the key, 32 bytes, that seals the box from `sender` to `receiver`.

    `kem` is the secret of the KEM, empty unless the key exchange is hybrid.
    """
    salt = digest("channel", session, sender.to_bytes(), receiver.to_bytes())
    return derive(own.exchange(other) + kem, salt, "seal")


def pair_key(own: Keypair, other: PublicKeys, low: bytes, high: bytes, context: bytes, contribution: bytes) -> bytes:
    """Return the key, 32 bytes, of the pair mask of two devices; `low` and `high` are their identities in order.

    `contribution` is the secret that the lower device sent to the higher one through its KEM, empty unless hybrid.
    """
    return derive(own.exchange(other) + contribution, context, "pair", low, high)


def commitment(secret: bytes) -> bytes:
    """Return the commitment, 32 bytes, on a card to the secret of the device's own mask; it verifies an opening."""
    return digest("own", secret)


def own_key(secret: bytes, identity: bytes, context: bytes) -> bytes:
    """Return the key, 32 bytes, of a device's own mask."""
    return derive(secret, context, "own", identity)


def contribution(own: Keypair, session: bytes, high: bytes) -> bytes:
    """Return the lower device's secret contribution, 32 bytes, to its pair mask with the device `high`."""
    return derive(own.secret, session, "contribution", high)
