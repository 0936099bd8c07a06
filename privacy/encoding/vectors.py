"""Types for vectors at each stage from training to release. None of them prints its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class _Redacted:
    """A vector whose repr shows only its shape and dtype."""

    def __repr__(self) -> str:
        vector: NDArray[np.generic] = self.__dict__["vector"]
        return f"{type(self).__name__}(shape={vector.shape}, dtype={vector.dtype})"


@dataclass(frozen=True, repr=False)
class Update(_Redacted):
    """The result of training on one device's records, without a bound on its norm: float [parameters], secret."""

    vector: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class Clipped(_Redacted):
    """A clipped change or a sum of clipped gradients: one unit moves it by at most the clip norm in L2.

    Float [parameters], secret.
    """

    vector: NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class Contribution(_Redacted):
    """A device's contribution to the round's sum, in steps of the integer grid: int64 [coordinates], secret.

    Its mechanism decides whether it holds the device's full noise, a share of the noise, or none.
    """

    vector: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Upload(_Redacted):
    """A contribution encoded in the ring, as it leaves the device: uint64 [words].

    With masks, it is uniformly random to everybody else. Without masks, it is as secret as the contribution.
    """

    vector: NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class Sum(_Redacted):
    """The exact sum of a round's contributions: int64 [coordinates].

    Until all of its noise is added, only the server may see it.
    """

    vector: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Release(_Redacted):
    """A release, charged to the ledger: the model's noised average change, float64 [parameters], public.

    `inside` is the noised fraction of the clients whose change was within the clip norm, if the plan adapts it.
    """

    vector: NDArray[np.float64]
    inside: float | None = None

    def times(self, scale: float) -> Release:
        """Return the release multiplied by `scale`; devices divided their changes by it before they clipped them."""
        return Release(self.vector * scale, self.inside)
