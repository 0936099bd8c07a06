"""Vectors in their degrees of secrecy. None prints what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class _Redacted:
    """Prints the shape only."""

    def __repr__(self) -> str:
        vector: NDArray[np.generic] = self.__dict__["vector"]
        return f"{type(self).__name__}(shape={vector.shape}, dtype={vector.dtype})"


@dataclass(frozen=True, repr=False)
class Update(_Redacted):
    """What training made of one device's records: float, shape [parameters], secret, of any size."""

    vector: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class Clipped(_Redacted):
    """An update that one unit moves by at most the clip norm, in L2: a sum of clipped gradients, or a clipped change.

    Float, shape [parameters], secret.
    """

    vector: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class Contribution(_Redacted):
    """What a device adds to the round's sum: int64 on the sums' grid, shape [coordinates], secret.

    It is as private as the mechanism that made it: with the device's noise, with a share of noise, or with none.
    """

    vector: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Upload(_Redacted):
    """A contribution in the words of the ring, as it leaves the device: uint64, shape [words].

    Under masks it is uniformly random by itself; in the clear it is as secret as the contribution.
    """

    vector: NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class Sum(_Redacted):
    """The exact sum of a round's contributions: int64, shape [coordinates].

    Secret from everyone but the server, until its noise is in it.
    """

    vector: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Release(_Redacted):
    """What may be published, paid for by the ledger: the model's average change, float64, shape [parameters].

    `inside` is the noised share of the clients whose change was within the clip norm, where the plan adapts it.
    """

    vector: NDArray[np.float64]
    inside: float | None = None

    def times(self, scale: float) -> Release:
        """Return the release with its change scaled, as the devices' changes were scaled down before the clip."""
        return Release(self.vector * scale, self.inside)
