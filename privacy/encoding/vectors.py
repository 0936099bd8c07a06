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
    """An update on the integer grid, within its sensitivity: int64, shape [parameters], secret."""

    vector: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Masked(_Redacted):
    """A clipped update in the words of the ring, under its masks: uint64, shape [words]; uniformly random alone.

    Where the plan's protocol is `sum` there are no masks, and it is as secret as the clipped update.
    """

    vector: NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class Sum(_Redacted):
    """The exact sum of the clipped updates of a round: int64, shape [parameters].

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
