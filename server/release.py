"""From the sum to what may be published, one function for each cell of unit times place of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..privacy import Keystream, Plan, Release, Sum
from ..privacy.encoding.quantization import dequantize
from ..privacy.encoding.rotation import unrotate
from ..privacy.mechanisms.banded import Correlation
from ..privacy.mechanisms.base import TOLD
from ..privacy.messages import LEAST_SCALE
from ..privacy.noise.gaussian import gaussian

Releaser = Callable[[Sum, Plan, Keystream, int], Release]
"""Takes the sum, the plan, secret randomness for noise, and the round's number."""


def release_central(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the model's change for one pooled DP-SGD step: the plan's noise is added to the gradient sum.

    The sum is divided by the public batch size, never by how many answered.

    Guarantee: the Gaussian mechanism of `plan.noise_multiplier` on the sum.
    Reference: Abadi et al. 2016, algorithm 1; McMahan et al. 2018 for the fixed divisor.
    """
    del round
    return _descent(_noised(total, plan, noise), plan)


def release_central_change(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the average of the devices' clipped changes, noised here; divided by the planned cohort.

    Guarantee: the Gaussian mechanism of `plan.noise_multiplier` on the sum.
    """
    del round
    return _average(_noised(total, plan, noise), plan)


def release_correlated(
    total: Sum, plan: Plan, noise: Keystream, correlation: Correlation
) -> tuple[Release, Correlation]:
    """Return what `release_central_change` does under noise that takes back part of earlier rounds', and what the
    next round's is made of, secret.

    Guarantee: for a client whose rounds lie `plan.bands` apart, the Gaussian mechanism of `plan.noise_multiplier` a
    round, as `privacy/mechanisms/banded.py` proves; as long as no two releases are made from one `correlation`.
    Reference: Choquette-Choo et al. 2023.
    """
    drawn, after = correlation.draw(_std(total, plan), len(total.vector), noise)
    return _average(_with(total, plan, drawn), plan), after


def release_shared(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the model's change for one pooled DP-SGD step, from a sum that brings its noise along."""
    del noise
    return _descent(_unrotated(total, plan, round), plan)


def release_shared_change(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the average of the devices' clipped changes, from a sum that brings its noise along."""
    del noise
    return _average(_unrotated(total, plan, round), plan)


def release_local(total: Sum, plan: Plan, noise: Keystream, round: int) -> Release:
    """Return the average of the devices' changes, which carry their own noise; divided by the planned cohort."""
    del noise, round
    return _average(dequantize(total.vector, plan.grid_step), plan)


def _noised(total: Sum, plan: Plan, noise: Keystream) -> NDArray[np.float64]:
    return _with(total, plan, gaussian(_std(total, plan), len(total.vector), noise))


def _with(total: Sum, plan: Plan, noise: NDArray[np.int64]) -> NDArray[np.float64]:
    return dequantize(_in_ring(total.vector * plan.refinement + noise, plan), plan.noise_step)


def _in_ring(noised: NDArray[np.int64], plan: Plan) -> NDArray[np.int64]:
    """Return the noised sum modulo the ring, so that it depends on the sum modulo the ring alone.

    Else a hostile device could bring a coordinate to the edge of the ring, where one record decides whether it wraps:
    noise that is added to what is left of it after that would not hide a step as large as the ring.
    """
    bits = plan.ring.bits
    if bits == 64:
        return noised  # of 64 bits itself
    ring = plan.refinement << bits
    return np.mod(noised + ring // 2, ring) - ring // 2


def _std(total: Sum, plan: Plan) -> float:
    """Return the standard deviation of the noise on a sum, in steps of the grid that it is added on."""
    return plan.noise_std(len(total.vector)) / plan.noise_step


def _unrotated(total: Sum, plan: Plan, round: int) -> NDArray[np.float64]:
    return unrotate(dequantize(total.vector, plan.grid_step), plan.rotation(round), plan.parameters + plan.adaptive)


def _average(total: NDArray[np.float64], plan: Plan) -> Release:
    mean = total / plan.cohort.size
    if not plan.adaptive:
        return Release(mean)
    return Release(mean[:-1], 0.5 + float(mean[-1]) / (TOLD * plan.safe_clip_norm))


def next_scale(plan: Plan, scale: float, release: Release) -> float:
    """Return the scale of the clip norm for the next round: larger if too few changes were within it.

    Reference: Andrew et al. 2021, equation 1, the geometric update.
    """
    p = plan.privacy
    if release.inside is None or p.clip_quantile is None:
        return scale
    inside = min(max(release.inside, 0.0), 1.0)
    return min(max(scale * math.exp(p.clip_rate * (p.clip_quantile - inside)), LEAST_SCALE), 1 / LEAST_SCALE)


def _descent(gradient_sum: NDArray[np.float64], plan: Plan) -> Release:
    return Release(-plan.training.learning_rate * gradient_sum / plan.training.batch_size)


RELEASES: Mapping[tuple[str, str], Releaser] = {
    ("record", "central"): release_central,
    ("record", "distributed"): release_shared,
    ("record", "local"): release_local,
    ("client", "central"): release_central_change,
    ("client", "distributed"): release_shared_change,
    ("client", "local"): release_local,
}
"""The cells of unit times place of noise that a server can release in. Correlated noise has `release_correlated`."""
