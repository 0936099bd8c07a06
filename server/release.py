"""From the sum to what may be published, one function for each place of noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..privacy import Keystream, Plan, Release, Sum
from ..privacy.noise import gaussian
from ..privacy.quantize import dequantize

Releaser = Callable[[Sum, Plan, Keystream], Release]


def release_central(total: Sum, plan: Plan, noise: Keystream) -> Release:
    """Return the model's change for one pooled DP-SGD step: the plan's noise is added to the gradient sum.

    The sum is divided by the public batch size, never by how many answered.

    Guarantee: the Gaussian mechanism of `plan.noise_multiplier` on the sum.
    Reference: Abadi et al. 2016, algorithm 1; McMahan et al. 2018 for the fixed divisor.
    """
    count = len(total.vector)
    fine = total.vector * plan.refinement
    noised = fine + gaussian(plan.noise_std(count) / plan.noise_step, count, noise)
    gradient = dequantize(noised, plan.noise_step) / plan.training.batch_size
    return Release(-plan.training.learning_rate * gradient)


def release_local(total: Sum, plan: Plan, noise: Keystream) -> Release:
    """Return the average of the devices' changes, which carry their own noise; divided by the planned cohort."""
    del noise
    return Release(dequantize(total.vector, plan.grid_step) / plan.cohort.size)


RELEASES: Mapping[tuple[str, str], Releaser] = {
    ("record", "central"): release_central,
    ("record", "local"): release_local,
}
"""The cells of unit times place of noise that a server can release in."""
