"""All that a device's answer may hold: the server learns nothing else from a device. Reading an answer validates it.

An answer has a status code. An answer with the code `ok` to a request to train also has the masked words of the
device's vector. Under secure aggregation it has sections: public keys, signatures, shares and boxes. Nothing else
about a record, a fault or the device itself has a place in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .messages import RAW, Malformed

ANSWER, UPDATE = "answer", "update"
"""Names of the records in an answer: the status code, and the words; the sections are in the record SECAGG."""

ANSWER_SECTIONS = ("name", "card", "sealed", "signature", "opened", "layers")
"""The sections of an answer `ok`: the device's name or public keys, its boxes, its signature, and opened shares."""


class Code(StrEnum):
    """The status codes of a device. It sends nothing else about an error, because an exception's text could hold
    data.

    `refused` covers both a plan beyond the owner's terms and a spent budget: with two codes, a server could measure
    what the device spent elsewhere.
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


def read_code(fields: Mapping[str, object]) -> Code:
    """Return the status code in a device's answer.

    Raises:
        Malformed: the fields are not a status code.
    """
    match dict(fields):
        case {"code": str(code), **rest} if code in set(Code) and not rest:
            return Code(code)
        case _:
            raise Malformed("not an answer")


def read_update(dtype: str, shape: tuple[int, ...], stype: str, data: bytes, count: int) -> NDArray[np.uint64]:
    """Return the `count` ring words in raw bytes, uint64 [words], read-only.

    Raises:
        Malformed: dtype, shape, length or encoding differ.
    """
    if (dtype, stype, tuple(shape)) != ("uint64", RAW, (count,)) or len(data) != 8 * count:
        raise Malformed("not an update")
    return np.frombuffer(data, dtype="<u8")
