"""Distributed noise: each device adds a share of Skellam noise inside the secure sum, so that nobody is trusted."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..accounting.events import Event, Skellam
from ..budget import View
from ..encoding.quantization import round_randomly
from ..encoding.ring import Ring
from ..encoding.rotation import padded, rotate, unrotate
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.keystream import Keystream
from ..noise.skellam import LEAST_VARIANCE, MOST_VARIANCE, skellam
from ..secagg.derive import digest
from .base import SPREAD, Draw, Mechanism
from .dropout_noise import layer_noise, steps_of_dropouts

DEVIATIONS = 6.0
"""How many standard deviations of its noise a sum has room for: beyond lie 2e-9 of its coordinates."""

ROUNDING_COST, NEGLIGIBLE = 0.02, 0.001
"""By what share random rounding may add to the sensitivity, and the share below which a finer grid is idle."""

LEAST_STEPS = 64
"""The fewest steps of a grid with shared noise in one clip norm."""

MOST_SHARE = 2.0**12
"""The largest standard deviation, in steps, of one device's share that a grid is chosen for."""


class Distributed(Mechanism):
    """Each device adds a Skellam share of the noise to its randomly rounded vector, inside the secure sum.

    The fewest survivors less the assumed colluders bring the noise that the plan claims: `noise_shares` shares.

    With `privacy.shares = "xnoise"` a device's share is a smaller one, enough if nobody drops out, and layers on top:
    with the first i of them the shares are enough for `steps_of_dropouts[i]` dropouts. Once it is known who has, the
    devices give up the seeds of the layers that are not needed, and the server takes those off, exactly.

    Reference: Jiang, Wang, Chen 2024, Dordis, section 4.
    """

    @cached_property
    def dimension(self) -> int:
        """How many coordinates the rotated vector has."""
        return self.coordinates(self.plan.parameters)

    def coordinates(self, parameters: int) -> int:
        """As many as the rotated vector has."""
        return padded(super().coordinates(parameters))

    def honest(self, survivors: int) -> int:
        """How many of so many survivors bring noise that nobody else knows, at least."""
        return survivors - self.plan.colluders

    @cached_property
    def noise_shares(self) -> int:
        """How many shares bring the noise that is claimed if as many drop out as may."""
        return self.honest(self.plan.least_survivors)

    @cached_property
    def steps_of_dropouts(self) -> tuple[int, ...]:
        """The numbers of dropouts, rising, that the shares are enough for: with no layer, with one, and so on."""
        size = self.plan.cohort.size
        most = size - self.plan.least_survivors
        return (most,) if self.plan.privacy.shares == "floor" else steps_of_dropouts(self.honest(size), most)

    def kept(self, survivors: int) -> int:
        """As many layers as make the shares enough for the devices that are missing."""
        missing = self.plan.cohort.size - survivors
        return min(bisect_left(self.steps_of_dropouts, missing), len(self.steps_of_dropouts) - 1)

    def arrived(self, survivors: int, devices: int) -> float:
        """The noise of so many devices in a sum over so many, as a share of the variance that is claimed."""
        return devices * self._enough[self.kept(survivors)]

    @property
    def generous_range(self) -> float:
        """Of the whole sum: the noise left in it, and `SPREAD` times an even share of a sum that agrees."""
        plan, n = self.plan, self.plan.cohort.size
        weight = plan.training.batch_size if plan.privacy.unit == "record" else n
        most = max(self.arrived(left, left) for left in (n - q for q in self._fewest_dropouts))
        noise = DEVIATIONS * self.noise_multiplier * math.sqrt((1 + ROUNDING_COST) * most)
        return self.clip_norm * (noise + SPREAD * weight / math.sqrt(self.dimension))

    @property
    def _fewest_dropouts(self) -> tuple[int, ...]:
        """The fewest dropouts with which each number of layers is kept: with those the noise is largest."""
        return (0, *(enough + 1 for enough in self.steps_of_dropouts[:-1]))

    @property
    def coarsest_step(self) -> float:
        """The coarsest step that adds little to the sensitivity."""
        return self.clip_norm * min(_step_of_cost(ROUNDING_COST, self.dimension), 1 / LEAST_STEPS)

    @property
    def vectors_in_sum(self) -> int:
        """One: `range` is that of the whole sum, beyond which coordinates wrap, at a loss of accuracy alone."""
        return 1

    def step_in(self, ring: Ring) -> float:
        """The value of one step in this ring: no finer than is of use."""
        finest = _step_of_cost(NEGLIGIBLE, self.dimension)
        smallest = self.noise_multiplier / math.sqrt(self.noise_shares) / MOST_SHARE
        useful = min(self.clip_norm * max(finest, smallest), self.coarsest_step)
        return max(self.range / self.bound_in(ring), useful)

    @property
    def noise_step(self) -> float:
        """The value of a step of the grid that shares are whole numbers on."""
        return self.grid_step

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the sum, root mean square over the random rounding: see `Skellam`.

        A clipped difference keeps its norm when it is rotated; rounding it at random adds at most a quarter of a
        step squared to the mean square of each coordinate.
        """
        return math.hypot(self.exact_sensitivity, math.sqrt(padded(dimension)) * self.grid_step / 2)

    @cached_property
    def _enough(self) -> list[float]:
        """One device's noise, as a share of the variance that is claimed: with no layer, with one, and so on."""
        return [1 / self.honest(self.plan.cohort.size - dropouts) for dropouts in self.steps_of_dropouts]

    @cached_property
    def variance(self) -> float:
        """Variance of the noise that is claimed, in steps squared."""
        return (self.noise_multiplier * self.sensitivity(self.dimension) / self.grid_step) ** 2

    @cached_property
    def share_variance(self) -> float:
        """Variance of one device's share of the noise, in steps squared, without the layers."""
        return self.variance * self._enough[0]

    @property
    def layers(self) -> tuple[float, ...]:
        """What each layer adds to the variance of one device's noise."""
        return tuple(self.variance * (more - less) for less, more in pairwise(self._enough))

    def planned(self, noise_multiplier: float) -> Event:
        """As for the coarsest grid: a finer one has more steps in its noise, and costs no more."""
        return self.sampled(Skellam(noise_multiplier, (noise_multiplier * self.clip_norm / self.coarsest_step) ** 2))

    def sum_event(self, view: View, survivors: int) -> Event:
        """The noise that has arrived but for the colluders': they may tell it to the server, or leave it out.

        Layers that are not needed are taken to be off, whether or not all devices gave up their seeds.
        """
        del view
        arrived = self.arrived(survivors, self.honest(survivors))
        return self.sampled(Skellam(self.noise_multiplier * math.sqrt(arrived), self.variance * arrived))

    @property
    def can_make_noise(self) -> bool:
        """Whether the Skellam sampler takes the variances of a share and of its layers."""
        variances = (self.share_variance, *self.layers)
        return min(variances) >= LEAST_VARIANCE and max(variances) <= MOST_VARIANCE

    def total_noise_std(self, dimension: int) -> float:
        """The shares of all devices of the cohort, without the layers that no dropout makes needed."""
        size = self.plan.cohort.size
        return self.noise_std(dimension) * math.sqrt(self.arrived(size, size))

    def rotation(self, round: int) -> bytes:
        """The seed, 32 public bytes, of the rotation that the devices of a round share."""
        return digest("rotation", bytes.fromhex(self.plan.digest), round)

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return a clipped vector rotated, rounded at random to the sums' grid, with a share of the noise.

        One with a coordinate that is not finite becomes the zero vector. `layers` are the seeds, secret, of the
        layers of noise on top of the device's share: one for each of `self.layers`.

        Guarantee: the sum over at least `plan.least_survivors` devices, `plan.colluders` of which reveal their
        shares, is the Skellam mechanism of `noise_multiplier`; nothing after the rounding is a floating-point number.
        Without all but the first `kept(survivors)` layers of each it still is.
        Reference: Agarwal et al. 2021; Jiang, Wang, Chen 2024 for the layers.

        Raises:
            ValueError: the vector is not clipped, or of another model, or there are more or fewer layers.
        """
        if not isinstance(vector, Clipped) or len(vector.vector) != self.plan.parameters + self.plan.adaptive:
            raise ValueError("a vector that is not clipped, or of another model")
        draws = draw("noise", 0)
        finite = vector.vector if np.isfinite(vector.vector).all() else np.zeros(len(vector.vector))
        rounded = round_randomly(rotate(finite, self.rotation(round)), self.grid_step, draws)
        share = skellam(self.share_variance, len(rounded), draws)
        return Contribution(rounded + share + layer_noise(self.layers, layers, len(rounded)))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return what the sum releases, which brings its noise along."""
        del noise, past
        count = self.plan.parameters + self.plan.adaptive
        return self.averaged(unrotate(self.decoded(total), self.rotation(round), count)), None


def _step_of_cost(cost: float, dimension: int) -> float:
    """Return the step, in clip norms, at which random rounding adds that share to the sensitivity."""
    return math.sqrt(8 * cost / dimension)
