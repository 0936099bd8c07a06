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
from ..derive import digest
from ..encoding.quantization import round_randomly
from ..encoding.ring import Ring
from ..encoding.rotation import padded, rotate, unrotate
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.keystream import Keystream
from ..noise.skellam import LEAST_VARIANCE, MOST_VARIANCE, skellam
from .base import SPREAD, Draw, Mechanism
from .dropout_noise import layer_noise, steps_of_dropouts

DEVIATIONS = 6.0
"""The room for noise in a sum, in standard deviations: 2e-9 of the coordinates lie beyond."""

ROUNDING_COST, NEGLIGIBLE = 0.02, 0.001
"""The largest fraction that random rounding may add to the sensitivity; below NEGLIGIBLE a finer grid is useless."""

LEAST_STEPS = 64
"""The fewest grid steps in one clip norm with distributed noise."""

MOST_SHARE = 2.0**12
"""The largest standard deviation, in steps, of one device's noise for which a grid is chosen."""


class Distributed(Mechanism):
    """Each device adds a Skellam share of the noise to its randomly rounded vector, inside the secure sum.

    The least number of survivors minus the assumed colluders, `noise_shares` devices, add the claimed noise.

    With `privacy.shares = "xnoise"` a device adds a smaller share, which suffices if nobody drops out, and layers of
    noise on top of it. With the first i layers the noise suffices for `steps_of_dropouts[i]` dropouts. When the
    dropouts are known, the devices reveal the seeds of the unneeded layers, and the server subtracts these exactly.

    Reference: Jiang, Wang, Chen 2024, Dordis, section 4.
    """

    @cached_property
    def dimension(self) -> int:
        """The number of coordinates of the rotated vector."""
        return self.coordinates(self.plan.parameters)

    def coordinates(self, parameters: int) -> int:
        """The number of coordinates of the rotated vector, for a network of `parameters` parameters."""
        return padded(super().coordinates(parameters))

    def least_honest(self, survivors: int) -> int:
        """The least number of honest devices among `survivors`: only their noise is secret."""
        return survivors - self.plan.colluders

    @cached_property
    def noise_shares(self) -> int:
        """The number of honest devices whose noise adds up to the claimed noise if as many drop out as allowed."""
        return self.least_honest(self.plan.least_survivors)

    @cached_property
    def steps_of_dropouts(self) -> tuple[int, ...]:
        """The largest numbers of dropouts for which the noise suffices: with no layer, with one layer, and so on."""
        size = self.plan.cohort.size
        most = size - self.plan.least_survivors
        return (most,) if self.plan.privacy.shares == "floor" else steps_of_dropouts(self.least_honest(size), most)

    def kept_layers(self, survivors: int) -> int:
        """The least number of layers with which the noise suffices for the missing devices."""
        missing = self.plan.cohort.size - survivors
        return min(bisect_left(self.steps_of_dropouts, missing), len(self.steps_of_dropouts) - 1)

    def relative_variance(self, survivors: int, devices: int) -> float:
        """The variance of the noise of `devices` devices in a sum over `survivors`, over the claimed variance."""
        return devices * self._enough[self.kept_layers(survivors)]

    @property
    def generous_range(self) -> float:
        """The range of the sum: its noise, plus `SPREAD` times the average coordinate of a sum of equal vectors."""
        plan, n = self.plan, self.plan.cohort.size
        weight = plan.training.batch_size if plan.privacy.unit == "record" else n
        most = max(self.relative_variance(left, left) for left in (n - q for q in self._fewest_dropouts))
        noise = DEVIATIONS * self.noise_multiplier * math.sqrt((1 + ROUNDING_COST) * most)
        return self.clip_norm * (noise + SPREAD * weight / math.sqrt(self.dimension))

    @property
    def _fewest_dropouts(self) -> tuple[int, ...]:
        """For each number of kept layers, the least number of dropouts that keeps it. There the noise is largest."""
        return (0, *(enough + 1 for enough in self.steps_of_dropouts[:-1]))

    @property
    def coarsest_step(self) -> float:
        """The coarsest grid step that adds little to the sensitivity."""
        return self.clip_norm * min(_step_of_cost(ROUNDING_COST, self.dimension), 1 / LEAST_STEPS)

    @property
    def vectors_in_sum(self) -> int:
        """One, because `range` is for the whole sum. Larger coordinates wrap, which costs accuracy but no privacy."""
        return 1

    def step_in(self, ring: Ring) -> float:
        """The value of one grid step in this ring, no finer than is useful."""
        finest = _step_of_cost(NEGLIGIBLE, self.dimension)
        smallest = self.noise_multiplier / math.sqrt(self.noise_shares) / MOST_SHARE
        useful = min(self.clip_norm * max(finest, smallest), self.coarsest_step)
        return max(self.range / self.bound_in(ring), useful)

    @property
    def noise_step(self) -> float:
        """The value of one step of the noise, which is added on the sums' own grid."""
        return self.grid_step

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the sum in L2, root mean square over the random rounding: see `Skellam`.

        Rotation keeps the norm of a clipped vector. Random rounding adds at most a quarter of a step squared to the
        mean square of each coordinate.
        """
        return math.hypot(self.exact_sensitivity, math.sqrt(padded(dimension)) * self.grid_step / 2)

    @cached_property
    def _enough(self) -> list[float]:
        """The variance of one device's noise divided by the claimed variance: with no layer, with one, and so on."""
        return [1 / self.least_honest(self.plan.cohort.size - dropouts) for dropouts in self.steps_of_dropouts]

    @cached_property
    def variance(self) -> float:
        """The claimed variance of the noise, in steps squared."""
        return (self.noise_multiplier * self.sensitivity(self.dimension) / self.grid_step) ** 2

    @cached_property
    def share_variance(self) -> float:
        """The variance of one device's noise without the layers, in steps squared."""
        return self.variance * self._enough[0]

    @property
    def layers(self) -> tuple[float, ...]:
        """The variance that each layer adds to one device's noise, in steps squared."""
        return tuple(self.variance * (more - less) for less, more in pairwise(self._enough))

    def planned(self, noise_multiplier: float) -> Event:
        """The event on the coarsest grid. On a finer grid the noise has more steps and costs no more."""
        return self.sampled(Skellam(noise_multiplier, (noise_multiplier * self.clip_norm / self.coarsest_step) ** 2))

    def sum_event(self, view: View, survivors: int) -> Event:
        """The event for the honest devices' noise. Colluders may reveal their noise to the server, or add none.

        Unneeded layers count as removed, whether or not all devices revealed their seeds.
        """
        del view
        arrived = self.relative_variance(survivors, self.least_honest(survivors))
        return self.sampled(Skellam(self.noise_multiplier * math.sqrt(arrived), self.variance * arrived))

    @property
    def can_make_noise(self) -> bool:
        """Whether the Skellam sampler supports the variances of a device's share and layers."""
        variances = (self.share_variance, *self.layers)
        return min(variances) >= LEAST_VARIANCE and max(variances) <= MOST_VARIANCE

    def total_noise_std(self, dimension: int) -> float:
        """The standard deviation of all devices' noise if nobody drops out, when unneeded layers are removed."""
        size = self.plan.cohort.size
        return self.noise_std(dimension) * math.sqrt(self.relative_variance(size, size))

    def rotation(self, round: int) -> bytes:
        """The seed of the round's rotation, 32 bytes, public: the same for all devices."""
        return digest("rotation", bytes.fromhex(self.plan.digest), round)

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the clipped vector after rotation and random rounding to the sums' grid, with the device's noise.

        A vector with a coordinate that is not finite becomes the zero vector. `layers` are the secret seeds of the
        layers of noise: one seed for each variance in `self.layers`.

        Guarantee: the sum over at least `plan.least_survivors` devices, if `plan.colluders` of them reveal their
        noise, is the Skellam mechanism of `noise_multiplier`. This holds also if only the first
        `kept_layers(survivors)` layers of each device stay in the sum. After the rounding all arithmetic is on
        integers.
        Reference: Agarwal et al. 2021; Jiang, Wang, Chen 2024 for the layers.

        Raises:
            ValueError: the vector is not clipped or of another model, or the number of seeds is wrong.
        """
        if not isinstance(vector, Clipped) or len(vector.vector) != self.plan.parameters + self.plan.adaptive:
            raise ValueError("a vector that is not clipped, or of another model")
        draws = draw("noise", 0)
        finite = vector.vector if np.isfinite(vector.vector).all() else np.zeros(len(vector.vector))
        rounded = round_randomly(rotate(finite, self.rotation(round)), self.grid_step, draws)
        share = skellam(self.share_variance, len(rounded), draws)
        return Contribution(rounded + share + layer_noise(self.layers, layers, len(rounded)))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the release of the sum, which already holds its noise."""
        del noise, past
        count = self.plan.parameters + self.plan.adaptive
        return self.averaged(unrotate(self.decoded(total), self.rotation(round), count)), None


def _step_of_cost(cost: float, dimension: int) -> float:
    """Return the step, in clip norms, for which random rounding adds the fraction `cost` to the sensitivity."""
    return math.sqrt(8 * cost / dimension)
