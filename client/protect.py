"""The one place where what training made of records becomes what may leave the device."""

from __future__ import annotations

from collections.abc import Sequence

from ..privacy import Clipped, Keystream, Masked, Plan, Update
from ..privacy.noise import gaussian
from ..privacy.quantize import quantize
from ..privacy.secagg.masks import Mask, add_masks


def add_noise(gradient_sum: Update, plan: Plan, noise: Keystream) -> Clipped:
    """Return a sum of clipped per-record gradients on the plan's finest grid, with the noise of a device's own step.

    Guarantee: the result is the Gaussian mechanism of `plan.noise_multiplier` on the sum.
    """
    clipped = quantize(gradient_sum, plan.noise_step)
    count = len(clipped.vector)
    return Clipped(clipped.vector + gaussian(plan.noise_std(count) / plan.noise_step, count, noise))


def protect(update: Update, plan: Plan) -> Clipped:
    """Return what a device adds to the round's sum, on the plan's grid and within its bound.

    Guarantee: the sum over the plan's cohort cannot overflow the ring.
    """
    return quantize(update, plan.grid_step, plan.bound)


def mask(clipped: Clipped, plan: Plan, masks: Sequence[Mask]) -> Masked:
    """Return the words that leave the device: the vector in the plan's ring, under its masks.

    Guarantee: where the plan's protocol is `secagg` the words are uniformly random to whoever lacks one mask's key.

    Raises:
        ValueError: there are no masks although the plan is secure, or masks although it is not.
    """
    if plan.secure != bool(masks):
        raise ValueError("masks where the plan has none, or none where it has")
    words = plan.ring.encode(clipped.vector)
    add_masks(words, masks)
    return Masked(words)
