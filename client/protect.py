"""The one place where what training made of records becomes what may leave the engine."""

from __future__ import annotations

from ..privacy import Clipped, Keystream, Plan, Update
from ..privacy.noise import gaussian
from ..privacy.quantize import quantize


def protect(gradient_sum: Update, plan: Plan, noise: Keystream | None) -> Clipped:
    """Return a sum of clipped per-record gradients on the plan's grid, with the plan's noise if the device adds it.

    `noise` is the keystream of the noise where `plan.privacy.noise` is local, and None where it is central: the
    result is then secret from all but a trusted server.

    Guarantee: with noise, the result is the Gaussian mechanism of `plan.noise_multiplier` on the sum.
    """
    clipped = quantize(gradient_sum, plan.grid_step)
    if noise is None:
        return clipped
    count = len(clipped.vector)
    return Clipped(clipped.vector + gaussian(plan.noise_std(count), count, noise))
