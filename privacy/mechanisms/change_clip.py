"""The clip of a device's whole change of the model, and the clip norm that adapts to the norms of the changes."""

from __future__ import annotations

import math

import numpy as np

from ..encoding.vectors import Clipped, Release, Update
from ..messages import LEAST_SCALE
from ..plan.plan import Plan

INDICATOR = 0.25
"""The distance, in clip norms, between the two values of the coordinate that says whether a change was clipped."""


def clip_change(update: Update, plan: Plan) -> Clipped:
    """Return a device's whole change, scaled down to the plan's clip norm if its norm is larger.

    If the plan adapts the clip norm, a last coordinate, under the same noise, says whether the change was within it.
    A change with a coordinate that is not finite becomes the zero vector.

    Guarantee: without that coordinate, the L2 norm is at most the clip norm: the change is clipped to
    `Plan.safe_clip_norm`, which leaves a margin for rounding. Adding or removing a device moves the sum by at most
    `Mechanism.exact_sensitivity`.
    Reference: McMahan et al. 2018, section 3; Andrew et al. 2021, algorithm 1.
    """
    clipped = _clip(update, plan)
    if not plan.adaptive:
        return clipped
    within = bool(np.linalg.norm(update.vector) <= plan.privacy.clip_norm)
    indicator = (0.5 if within else -0.5) * INDICATOR * plan.safe_clip_norm
    return Clipped(np.append(clipped.vector, indicator))


def _clip(update: Update, plan: Plan) -> Clipped:
    vector = update.vector.astype(np.float64)
    largest = float(np.abs(vector).max(initial=0.0))
    if not np.isfinite(largest) or largest == 0.0:
        return Clipped(np.zeros(len(vector)))
    norm = largest * float(np.linalg.norm(vector / largest))
    return Clipped(vector * min(1.0, plan.safe_clip_norm / norm))


def share_within(mean: float, plan: Plan) -> float:
    """Return the noised fraction of changes within the clip norm, from the mean of the last coordinates."""
    return 0.5 + mean / (INDICATOR * plan.safe_clip_norm)


def next_scale(plan: Plan, scale: float, release: Release) -> float:
    """Return the scale of the clip norm for the next round: larger if too few changes were within it.

    Reference: Andrew et al. 2021, equation 1, the geometric update.
    """
    p = plan.privacy
    if release.inside is None or p.clip_quantile is None:
        return scale
    inside = min(max(release.inside, 0.0), 1.0)
    return min(max(scale * math.exp(p.clip_rate * (p.clip_quantile - inside)), LEAST_SCALE), 1 / LEAST_SCALE)
