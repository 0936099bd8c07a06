"""Signatures on the survivors, the devices whose vectors are in the sum.

In malicious-server mode, devices sign the list of survivors, so there is only one. In semi-honest mode, each device
signs the context that it masked its vector for. So all survivors, and every device that opens shares, saw the same
members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from ..derive import digest
from ..messages import Malformed
from .identity import SIGNATURE_BYTES, Identity, verified
from .keys import Card


def consent(identity: Identity, context: bytes, survivors: bytes) -> bytes:
    """Return a device's signature on the survivors, a set as bits, in the round with this context."""
    return identity.sign(_consented(context, survivors))


def consents(card: Card, signature: bytes, context: bytes, survivors: bytes) -> bool:
    """Whether the card's owner signed these survivors."""
    return verified(card.identity, signature, _consented(context, survivors))


def _consented(context: bytes, survivors: bytes) -> bytes:
    return digest("survivors", context, survivors)


def sign_context(identity: Identity, context: bytes) -> bytes:
    """Return a device's signature on the context, 32 bytes, that it masked its vector for."""
    return identity.sign(digest("masked", context))


def signed_context(card: Card, signature: bytes, context: bytes) -> bool:
    """Whether the card's owner signed that it masked its vector for this context."""
    return verified(card.identity, signature, digest("masked", context))


def pack_consents(signatures: Mapping[int, bytes]) -> bytes:
    """Return the bytes of signatures by position: for each, in order, 4 bytes of position and the signature."""
    return b"".join(position.to_bytes(4) + signatures[position] for position in sorted(signatures))


def count_consents(
    data: bytes, cards: Mapping[int, Card], signers: Iterable[int], context: bytes, survivors: bytes
) -> int:
    """Return how many of the allowed `signers` signed these survivors.

    Raises:
        Malformed: the data are not distinct signatures in order, or one is by another signer or on another list.
    """
    signatures, allowed = _unpack(data), set(signers)
    for position, signature in signatures.items():
        if position not in allowed or not consents(cards[position], signature, context, survivors):
            raise Malformed("not a signature of this list")
    return len(signatures)


def check_context_signatures(
    data: bytes, cards: Mapping[int, Card], survivors: Iterable[int], context: bytes
) -> None:
    """Check that exactly these survivors signed that they masked their vectors for this context.

    Raises:
        Malformed: the data are not distinct signatures in order, or a signature is missing or not on this context.
    """
    signatures = _unpack(data)
    if set(signatures) != set(survivors):
        raise Malformed("not a signature of each survivor")
    if not all(signed_context(cards[position], signature, context) for position, signature in signatures.items()):
        raise Malformed("a survivor of another round, or of other members")


def _unpack(data: bytes) -> dict[int, bytes]:
    """Return signatures by position."""
    size = 4 + SIGNATURE_BYTES
    entries = [data[at : at + size] for at in range(0, len(data), size)]
    positions = [int.from_bytes(entry[:4]) for entry in entries]
    if len(data) % size or any(a >= b for a, b in pairwise(positions)):
        raise Malformed("not signatures in order")
    return {position: entry[4:] for position, entry in zip(positions, entries, strict=True)}
