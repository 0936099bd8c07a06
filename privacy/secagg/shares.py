"""Shares of secrets that devices exchange before a round, in boxes that the server cannot open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..derive import derive, digest
from ..messages import Malformed
from .keys import CIPHERTEXT_BYTES, Card, Keypair, RoundSecrets, channel_key, contribution
from .shamir import SHARE_BYTES, is_share, split

TAG_BYTES, CONTRIBUTION_BYTES, HASH_BYTES = 16, 32, 32
NONCE = bytes(12)
"""The nonce is zero, because a channel key seals only one message."""


@dataclass(frozen=True, repr=False)
class SecretShares:
    """A device's shares, 33 bytes each, of another device's secrets: of its own mask, and of its mask keys."""

    own: bytes
    mask: bytes

    def __repr__(self) -> str:
        return "SecretShares(secret)"


@dataclass(frozen=True, repr=False)
class BoxContent:
    """The content of a sealed box: shares of the sender's secrets, and its KEM contribution, if any."""

    held: SecretShares
    contribution: bytes = b""

    def __repr__(self) -> str:
        return "BoxContent(secret)"


def box_bytes(hybrid: bool, upward: bool) -> int:
    """The length in bytes of a sealed box and its hashes; `upward` if the sender has the lower identity."""
    kem = CIPHERTEXT_BYTES * (2 if upward else 1) + CONTRIBUTION_BYTES * upward
    return 2 * SHARE_BYTES + TAG_BYTES + kem * hybrid + 2 * HASH_BYTES


def share_hash(kind: str, share: bytes, sender: Card, receiver: Card, session: bytes) -> bytes:
    """Return the hash, 32 bytes, that verifies a share once it is opened; `kind` is `own` or `mask`.

    Given fewer other shares than the threshold, a share has as much entropy as its secret of 32 bytes, so its hash
    reveals nothing about it. The hash covers session, sender and receiver, so it is valid nowhere else.
    """
    return digest("share", session, sender.identity, receiver.identity, kind.encode(), share)


def hashes(held: SecretShares, sender: Card, receiver: Card, session: bytes) -> bytes:
    """Return the hashes of the receiver's shares of the sender's own mask and of its mask keys."""
    shares = {"own": held.own, "mask": held.mask}
    return b"".join(share_hash(kind, share, sender, receiver, session) for kind, share in shares.items())


def split_secrets(own: RoundSecrets, threshold: int, positions: Sequence[int]) -> list[SecretShares]:
    """Return shares of a device's secrets for the devices at these positions, which include its own."""
    points = [position + 1 for position in positions]
    pairs = zip(split(own.own, threshold, points), split(own.mask.secret, threshold, points), strict=True)
    return [SecretShares(own_share, mask_share) for own_share, mask_share in pairs]


def seal(own: RoundSecrets, sender: Card, receiver: Card, held: SecretShares, session: bytes) -> bytes:
    """Return the sealed box for one receiver, and the public hashes of the shares in it.

    Only the receiver can open the box, and only as a box from this sender. It is sealed by ChaCha20-Poly1305
    (RFC 8439) under a key derived from both cards and the session; the KEM ciphertexts are authenticated too. A pair
    of cards must be used for only one box in each direction.
    """
    kem, wrapped = b"", b""
    if receiver.channel.mlkem:
        kem, carrier = receiver.channel.encapsulate()
        wrapped = carrier + (_wrap(own.mask, receiver, session) if _upward(sender, receiver) else b"")
    key = channel_key(own.channel, receiver.channel, sender, receiver, session, kem)
    sealed = ChaCha20Poly1305(key).encrypt(NONCE, held.own + held.mask, wrapped)
    return wrapped + sealed + hashes(held, sender, receiver, session)


def unseal(own: RoundSecrets, sender: Card, receiver: Card, box: bytes, session: bytes) -> BoxContent:
    """Return the content of a box from the sender; `own` are the receiver's secrets.

    Raises:
        Malformed: the box was not sealed by the sender for the receiver in this session, or its shares do not have
            the hashes that came with it.
    """
    hybrid, upward = bool(receiver.channel.mlkem), _upward(sender, receiver)
    if len(box) != box_bytes(hybrid, upward):
        raise Malformed("not a sealed box")
    inner, shown = 2 * SHARE_BYTES + TAG_BYTES, box[-2 * HASH_BYTES :]
    body = box[: -2 * HASH_BYTES]
    wrapped, sealed = body[:-inner], body[-inner:]
    kem = own.channel.decapsulate(wrapped[:CIPHERTEXT_BYTES]) if hybrid else b""
    key = channel_key(own.channel, sender.channel, sender, receiver, session, kem)
    try:
        opened = ChaCha20Poly1305(key).decrypt(NONCE, sealed, wrapped)
    except InvalidTag:
        raise Malformed("not a box of this sender") from None
    held = SecretShares(opened[:SHARE_BYTES], opened[SHARE_BYTES:])
    if not (is_share(held.own) and is_share(held.mask)):
        raise Malformed("not shares")
    if hashes(held, sender, receiver, session) != shown:
        raise Malformed("not the shares of these hashes")
    given = unwrap(own.mask, receiver, box, session) if hybrid and upward else b""
    return BoxContent(held, given)


def unwrap(mask: Keypair, receiver: Card, box: bytes, session: bytes) -> bytes:
    """Return the contribution to a pair mask in an upward box; `mask` is the receiver's mask key pair."""
    carrier = box[CIPHERTEXT_BYTES : 2 * CIPHERTEXT_BYTES]
    given = box[2 * CIPHERTEXT_BYTES : 2 * CIPHERTEXT_BYTES + CONTRIBUTION_BYTES]
    pad = derive(mask.decapsulate(carrier), session, "wrap", receiver.identity)
    return _xor(given, pad)


def _wrap(mask: Keypair, receiver: Card, session: bytes) -> bytes:
    kem, carrier = receiver.mask.encapsulate()
    pad = derive(kem, session, "wrap", receiver.identity)
    return carrier + _xor(contribution(mask, session, receiver.identity), pad)


def _upward(sender: Card, receiver: Card) -> bool:
    return sender.identity < receiver.identity


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
