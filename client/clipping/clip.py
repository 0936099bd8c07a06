"""From the uses of layers to the sum of clipped gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .accumulate import Run
from .errors import ClippingError
from .layers.registry import Use
from .small_layers import Whole, whole

SPREAD = 32.0
"""How many clip norms of terms that cancel a record may bring into a sum with others; beyond, its norm from Gram
matrices is not exact enough, and it is clipped by that of its own sum."""

LEAST = 2.0**-100
"""Factors, relative to the clip norm, below which float32 loses bits: gradients so large count as not finite."""

Part = tuple[Run, torch.Tensor]


def clipped_parts(uses: Sequence[Use], clip_norm: float, rows: int, device: torch.device) -> Iterator[Part]:
    """Return parameters with parts of the sum of clipped gradients, float64 or float32, to be added up.

    Factors are made by numpy, whose calls on so few numbers are short.
    """
    uses = whole(uses)
    norms, spreads = norms_and_spreads(uses, rows)
    sound = np.isfinite(norms) & np.isfinite(spreads)
    factors = np.where(sound, np.minimum(clip_norm / (norms + 1e-6), 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        alone = factors * spreads > SPREAD * clip_norm
    yield from _together(uses, np.where(alone, 0.0, factors), clip_norm, device)
    for place in alone.nonzero()[0]:
        yield from _alone(uses, torch.from_numpy(np.eye(rows)[place]).to(device), clip_norm)


def norms_and_spreads(uses: Sequence[Use], rows: int) -> NDArray[np.float64]:
    """Return the records' norms over all layers, and what their rounding is relative to, float64 [2, rows].

    Raises:
        ClippingError: a layer had other than `rows` rows.
    """
    squares = [part for use in uses for part in (use.squared_norms(), use.squared_magnitudes())]
    if len(squares) == 2 and squares[0] is squares[1]:
        squares.pop()  # as of one network put together: the same numbers
    if any(part.shape != (rows,) for part in squares):
        raise ClippingError(
            "a layer sees other than one row a record", "keep records in the first dimension of all layers"
        )
    if len(squares) == 1:
        return np.sqrt(np.broadcast_to(squares[0].cpu().numpy(), (2, rows)))
    return np.sqrt(torch.stack(squares).cpu().numpy().reshape(-1, 2, rows).sum(0))


def _together(
    uses: Sequence[Use], factors: NDArray[np.float64], clip_norm: float, device: torch.device
) -> Iterator[Part]:
    """Yield the sums over records times factors. A power of two keeps factors where float32 has all its bits."""
    scale = _scale(clip_norm)
    scaled = torch.from_numpy(np.where(factors * scale >= LEAST, factors * scale, 0.0)).to(device)
    for use in uses:
        for run, part in use.runs(scaled) if isinstance(use, Whole) else as_runs(use.weighted(scaled)):
            yield run, part if scale == 1.0 else part.double() / scale


def _scale(clip_norm: float) -> float:
    """Return the power of two that brings the clip norm between 2^-10 and 2^60."""
    _, exponent = math.frexp(clip_norm)
    return 2.0 ** (min(max(exponent, -10), 60) - exponent)


def _alone(uses: Sequence[Use], chosen: torch.Tensor, clip_norm: float) -> list[Part]:
    """Return one record's share, clipped by the norm of what came out; `chosen` [rows] is one at the record."""
    parts = [pair for use in uses for pair in use.weighted(chosen) if pair[0].requires_grad]
    norm = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for _, part in parts]).norm()
    if not bool(torch.isfinite(norm)):
        return []
    factor = min(1.0, clip_norm / (float(norm) + 1e-6))
    return as_runs((parameter, part.double() * factor) for parameter, part in parts)


def as_runs(pairs: Iterable[tuple[nn.Parameter, torch.Tensor]]) -> list[Part]:
    """Return parts of single parameters."""
    return [((parameter,), part) for parameter, part in pairs]
