"""The messages of a server to devices, without Flower's transport. Reading a message validates it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OFFER, PARAMETERS, SECAGG = "offer", "parameters", "secagg"
"""Names of the records in a message of the server; `server_view` has those of an answer."""

TRAIN, WHO = "train", "query.who"
KEYS, SHARES, BOXES = "query.keys", "query.shares", "query.boxes"
CONSENT, UNMASK = "query.consent", "query.unmask"
"""The kinds of message, as Flower's message types. All but the first two belong to secure aggregation."""

Sections = Mapping[str, bytes]
"""The named sections of a message of secure aggregation; `bract.privacy.secagg` reads their bytes."""

RAW = "bract.raw"
"""The name of the vector encoding: raw little-endian bytes."""

LEAST_SCALE = 2.0**-20
"""The smallest scale of a clip norm; its inverse is the largest."""

Scalar = str | int | float | bool


class Malformed(ValueError):
    """A message is not well-formed."""


@dataclass(frozen=True)
class Offer:
    """The server's offer to a device for one round: the plan as TOML text, public.

    `scale` is the round's clip norm over the plan's; it is 1 unless the plan adapts the clip norm.
    """

    round: int
    plan: str
    scale: float = 1.0

    def to_fields(self) -> dict[str, Scalar]:
        """The offer as the fields of a record."""
        return {"round": self.round, "plan": self.plan} | ({"scale": self.scale} if self.scale != 1.0 else {})


def model_digest(parameters: NDArray[np.float32], scale: float) -> bytes:
    """Return the SHA-256 of a round's parameters, and of the scale of the clip norm unless it is 1.

    Masks are derived from it, so they do not cancel between devices that received different parameters or scales.
    """
    hashed = hashlib.sha256(parameters.astype("<f4", copy=False).tobytes())
    if scale != 1.0:
        hashed.update(struct.pack("<d", scale))
    return hashed.digest()


def read_offer(fields: Mapping[str, object]) -> Offer:
    """Return the offer in these fields.

    Raises:
        Malformed: the fields are not an offer.
    """
    match {"scale": 1.0, **fields}:
        case {"round": int(number), "plan": str(plan), "scale": float(scale), **rest} if (
            number >= 1 and number is not True and LEAST_SCALE <= scale <= 1 / LEAST_SCALE and not rest
        ):
            return Offer(number, plan, scale)
        case _:
            raise Malformed("not an offer")


def read_parameters(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> NDArray[np.float32]:
    """Return the vector in raw bytes, float32 [parameters], read-only.

    Raises:
        Malformed: dtype, shape, length or encoding differ, or a value is not finite.
    """
    if (dtype, stype, len(shape)) != ("float32", RAW, 1) or len(data) != 4 * shape[0]:
        raise Malformed("not parameters")
    vector = np.frombuffer(data, dtype="<f4")
    if not np.isfinite(vector).all():
        raise Malformed("parameters are not finite")
    return vector


def read_sections(fields: Mapping[str, object], needed: Collection[str], also: Collection[str] = ()) -> Sections:
    """Return the sections in these fields: all that are `needed`, and any that are allowed by `also`.

    Raises:
        Malformed: a section is missing, unknown, or not of bytes.
    """
    sections = {name: data for name, data in fields.items() if isinstance(data, bytes)}
    if len(sections) != len(fields) or not set(needed) <= set(sections) <= {*needed, *also}:
        raise Malformed("not these sections")
    return sections
