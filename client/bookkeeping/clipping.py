"""From the uses of layers to the sum of clipped gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from ...privacy import PlanError
from .rules import Use

SPREAD = 32.0
"""How many clip norms of terms that cancel a record may bring into a sum with others; beyond, its norm from Gram
matrices is not exact enough, and it is clipped by that of its own sum."""

LEAST = 2.0**-100
"""Factors, relative to the clip norm, below which float32 loses bits: gradients so large count as not finite."""

Part = tuple[nn.Parameter, torch.Tensor]


def clipped_parts(uses: Sequence[Use], clip_norm: float, rows: int) -> Iterator[Part]:
    """Return pairs of a parameter and a part of the sum of clipped gradients, float64 or float32, to be added up."""
    norms = norms_of([use.squared_norms() for use in uses], rows)
    spreads = norms_of([use.magnitudes().square() for use in uses], rows)
    sound = torch.isfinite(norms) & torch.isfinite(spreads)
    factors = torch.where(sound, (clip_norm / (norms + 1e-6)).clamp(max=1.0), 0.0)
    alone = factors * spreads > SPREAD * clip_norm
    yield from _together(uses, torch.where(alone, 0.0, factors), clip_norm)
    for chosen in torch.eye(rows, dtype=factors.dtype, device=factors.device)[alone] if bool(alone.any()) else []:
        yield from _alone(uses, chosen, clip_norm)


def norms_of(squares: list[torch.Tensor], rows: int) -> torch.Tensor:
    """Return norms over all layers, float64 [rows], from squared ones of each, float64 [rows].

    Raises:
        PlanError: a layer had other than `rows` rows.
    """
    if any(s.shape != (rows,) for s in squares):
        raise PlanError(
            "a layer sees other than one row a record", "keep records in the first dimension of all layers"
        )
    return torch.stack(squares).sum(0).sqrt()


def _together(uses: Sequence[Use], factors: torch.Tensor, clip_norm: float) -> Iterator[Part]:
    """Yield the sums over records times factors. A power of two keeps factors where float32 has all its bits."""
    scale = _scale(clip_norm)
    scaled = factors * scale
    scaled = torch.where(scaled >= LEAST, scaled, 0.0)
    for use in uses:
        for parameter, part in use.weighted(scaled):
            yield parameter, part if scale == 1.0 else part.double() / scale


def _scale(clip_norm: float) -> float:
    """Return the power of two that brings the clip norm between 2^-10 and 2^60."""
    _, exponent = torch.frexp(torch.tensor(clip_norm, dtype=torch.float64))
    return 2.0 ** (min(max(int(exponent), -10), 60) - int(exponent))


def _alone(uses: Sequence[Use], chosen: torch.Tensor, clip_norm: float) -> list[Part]:
    """Return one record's share, clipped by the norm of what came out; `chosen` [rows] is one at the record."""
    parts = [pair for use in uses for pair in use.weighted(chosen) if pair[0].requires_grad]
    norm = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for _, part in parts]).norm()
    if not bool(torch.isfinite(norm)):
        return []
    factor = min(1.0, clip_norm / (float(norm) + 1e-6))
    return [(parameter, part.double() * factor) for parameter, part in parts]
