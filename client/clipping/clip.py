"""Clip factors and weighted sums: from the layers' per-example gradients to the sum of clipped gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .accumulate import PartialSum
from .errors import ClippingError
from .layers.base import Pairs, PerExampleGradients
from .layers.instantiated import BLOCK, flat_rows, squared_row_norms, weighted_row_sum

CANCELLATION = 32.0
"""The limit on terms that cancel, in clip norms. If a record would add more of them, its ghost norm is not exact
enough: it is then clipped alone, by the norm of its own sum."""

LEAST_FACTOR = 2.0**-100
"""The least clip factor, for a clip norm near one. A gradient that needs a smaller factor counts as zero."""

SHORT = 1 << 12
"""The largest gradient of one record, in values, for which layers are joined: this saves calls."""


def clipped_partial_sums(
    layers: Sequence[PerExampleGradients], clip_norm: float, rows: int, device: torch.device
) -> Iterator[PartialSum]:
    """Yield partial sums, float64 or float32, that add up to the sum over `rows` records of their clipped gradients.

    `layers` hold the per-example gradients of all layers. A record's clip factor is min(1, clip_norm / its norm), and
    zero if its norm is not finite. numpy computes the factors, because it is faster than torch on so few numbers.

    Guarantee: what a record adds has a norm of at most clip_norm * (1 + 1/1024); see `BookKeepingEngine`.
    Reference: Abadi et al. 2016, algorithm 1.
    """
    layers = joined_if_short(layers)
    norms, bounds = norms_and_bounds(layers, rows)
    finite = np.isfinite(norms) & np.isfinite(bounds)
    factors = np.where(finite, np.minimum(clip_norm / (norms + 1e-6), 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        alone = factors * bounds > CANCELLATION * clip_norm
    yield from _weighted_partial_sums(layers, np.where(alone, 0.0, factors), clip_norm, device)
    for row in alone.nonzero()[0]:
        yield from _one_record(layers, torch.from_numpy(np.eye(rows)[row]).to(device), clip_norm)


def norms_and_bounds(layers: Sequence[PerExampleGradients], rows: int) -> NDArray[np.float64]:
    """Return the records' norms over all layers, and their bounds as in `GradientNorms`, float64 [2, rows].

    Raises:
        ClippingError: a layer had other than `rows` rows.
    """
    squares = [part for layer in layers for part in (layer.squared_norms, layer.squared_norm_bounds)]
    if len(squares) == 2 and squares[0] is squares[1]:
        squares.pop()  # joined layers have one tensor for both
    if any(part.shape != (rows,) for part in squares):
        raise ClippingError(
            "a layer's inputs do not have one row for each record",
            "keep records in the first dimension of every layer's inputs",
        )
    if len(squares) == 1:
        return np.sqrt(np.broadcast_to(squares[0].cpu().numpy(), (2, rows)))
    return np.sqrt(torch.stack(squares).cpu().numpy().reshape(-1, 2, rows).sum(0))


def _weighted_partial_sums(
    layers: Sequence[PerExampleGradients], factors: NDArray[np.float64], clip_norm: float, device: torch.device
) -> Iterator[PartialSum]:
    """Yield the sum of gradients times factors. A power of two scales the factors to float32's precise range."""
    scale = _scale(clip_norm)
    scaled = torch.from_numpy(np.where(factors * scale >= LEAST_FACTOR, factors * scale, 0.0)).to(device)
    for layer in layers:
        for parameters, part in layer.partial_sums(scaled):
            yield parameters, part if scale == 1.0 else part.double() / scale


def _scale(clip_norm: float) -> float:
    """Return the power of two that brings the clip norm between 2^-10 and 2^60."""
    _, exponent = math.frexp(clip_norm)
    return 2.0 ** (min(max(exponent, -10), 60) - exponent)


def _one_record(layers: Sequence[PerExampleGradients], chosen: torch.Tensor, clip_norm: float) -> list[PartialSum]:
    """Return one record's gradient, clipped by its own norm; `chosen` [rows] is one for this record, else zero."""
    pairs = [pair for layer in layers for pair in layer.weighted_sum(chosen) if pair[0].requires_grad]
    norm = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for _, part in pairs]).norm()
    if not bool(torch.isfinite(norm)):
        return []
    factor = min(1.0, clip_norm / (float(norm) + 1e-6))
    return [((parameter,), part.double() * factor) for parameter, part in pairs]


def joined_if_short(layers: Sequence[PerExampleGradients]) -> Sequence[PerExampleGradients]:
    """Return the layers, joined into one if all their gradients are instantiated and short together."""
    instantiated = [layer.instantiated for layer in layers]
    pairs = [pair for own in instantiated for pair in own]
    if not all(instantiated) or sum(parameter.numel() for parameter, _ in pairs) > SHORT:
        return layers
    return [JoinedGradients(pairs)]


class JoinedGradients(PerExampleGradients):
    """Short gradients of all layers, concatenated in one tensor, so that a small network's step needs few calls."""

    def __init__(self, pairs: Pairs) -> None:
        """Join `pairs`, each of a parameter and a tensor [rows, *its shape]."""
        self._parameters = [parameter for parameter, _ in pairs]
        flat = [flat_rows(each) for _, each in pairs]
        self._sizes = [each.shape[1] for each in flat]
        self._sizes.append(-sum(self._sizes) % BLOCK)
        self._each = torch.cat([*flat, flat[0].new_zeros(len(flat[0]), self._sizes[-1])], dim=1)

    def _squared_norms(self) -> torch.Tensor:
        return squared_row_norms(self._each)

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum of the records' gradients times `factors` [rows]."""
        sums = zip(self._parameters, weighted_row_sum(self._each, factors).split(self._sizes), strict=False)
        return [(parameter, part.view(parameter.shape)) for parameter, part in sums]

    def partial_sums(self, factors: torch.Tensor) -> list[PartialSum]:
        """Return the weighted sum of all parameters in one tensor [numbers]."""
        return [(tuple(self._parameters), weighted_row_sum(self._each, factors)[: sum(self._sizes[:-1])])]
