"""What server and devices say to each other, apart from how Flower carries it. Parsing is validation."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

OFFER, PARAMETERS, ANSWER, UPDATE, SECAGG = "offer", "parameters", "answer", "update", "secagg"
"""Names of the records in a message."""

TRAIN, WHO = "train", "query.who"
KEYS, SHARES, BOXES = "query.keys", "query.shares", "query.boxes"
CONSENT, UNMASK = "query.consent", "query.unmask"
"""The kinds of message, Flower's message types. All but the first two are secure aggregation's."""

Sections = Mapping[str, bytes]
"""What a message says of secure aggregation: by the name of each part its bytes, for `bract.privacy.secagg`."""

RAW = "bract.raw"
"""How vectors are written: their little-endian bytes."""

LEAST_SCALE = 2.0**-20
"""The least that a clip norm is ever scaled by; its inverse is the most."""

Scalar = str | int | float | bool


class Code(StrEnum):
    """All that a device ever says of how it went: an exception's text could hold data, so it never leaves.

    `refused` does not say whether the plan goes past the owner's terms or past what was spent before: with two codes
    a server could measure what the device spent elsewhere.
    """

    OK = "ok"
    MALFORMED = "malformed"
    PLAN = "plan"
    REFUSED = "refused"
    DATA = "data"
    ROSTER = "roster"
    LOST = "lost"
    SEALED = "sealed"
    FAILED = "failed"


class Malformed(ValueError):
    """A message is not what it should be."""


@dataclass(frozen=True)
class Offer:
    """What the server offers a device for one round: the plan as TOML text, public.

    `scale` is that of the clip norm, where the plan adapts it: the round's clip norm over the plan's.
    """

    round: int
    plan: str
    scale: float = 1.0

    def to_fields(self) -> dict[str, Scalar]:
        """The offer as the fields of a record."""
        return {"round": self.round, "plan": self.plan} | ({"scale": self.scale} if self.scale != 1.0 else {})


def model_digest(parameters: NDArray[np.float32], scale: float) -> bytes:
    """Return SHA-256 of what a round offers all devices alike: parameters, and the scale of the clip norm unless 1.

    Masks are bound to it, so devices that were offered different things have no sum.
    """
    hashed = hashlib.sha256(parameters.astype("<f4", copy=False).tobytes())
    if scale != 1.0:
        hashed.update(struct.pack("<d", scale))
    return hashed.digest()


def read_offer(fields: Mapping[str, object]) -> Offer:
    """Return the offer that the fields hold.

    Raises:
        Malformed: they hold something else.
    """
    match {"scale": 1.0, **fields}:
        case {"round": int(number), "plan": str(plan), "scale": float(scale), **rest} if (
            number >= 1 and number is not True and LEAST_SCALE <= scale <= 1 / LEAST_SCALE and not rest
        ):
            return Offer(number, plan, scale)
        case _:
            raise Malformed("not an offer")


def read_code(fields: Mapping[str, object]) -> Code:
    """Return the code that a device answered with.

    Raises:
        Malformed: the fields hold something else.
    """
    match dict(fields):
        case {"code": str(code), **rest} if code in set(Code) and not rest:
            return Code(code)
        case _:
            raise Malformed("not an answer")


def read_parameters(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> NDArray[np.float32]:
    """Return the float32 vector that was sent as raw bytes, shape [parameters], read-only.

    Raises:
        Malformed: dtype, shape, length or way of writing differ, or a value is not finite.
    """
    if (dtype, stype, len(shape)) != ("float32", RAW, 1) or len(data) != 4 * shape[0]:
        raise Malformed("not parameters")
    vector = np.frombuffer(data, dtype="<f4")
    if not np.isfinite(vector).all():
        raise Malformed("parameters are not finite")
    return vector


def read_update(dtype: str, shape: tuple[int, ...], stype: str, data: bytes, count: int) -> NDArray[np.uint64]:
    """Return the `count` words of the ring that were sent as raw bytes, uint64 [words], read-only.

    Raises:
        Malformed: dtype, shape, length or way of writing differ.
    """
    if (dtype, stype, tuple(shape)) != ("uint64", RAW, (count,)) or len(data) != 8 * count:
        raise Malformed("not an update")
    return np.frombuffer(data, dtype="<u8")


def read_sections(fields: Mapping[str, object], needed: Collection[str], also: Collection[str] = ()) -> Sections:
    """Return the sections of these fields: all that are `needed`, and such as may be there `also`.

    Raises:
        Malformed: one is missing, unknown, or holds no bytes.
    """
    sections = {name: data for name, data in fields.items() if isinstance(data, bytes)}
    if len(sections) != len(fields) or not set(needed) <= set(sections) <= {*needed, *also}:
        raise Malformed("not these sections")
    return sections
