"""Distributed noise: each device adds a share of Skellam noise inside the secure sum, so that nobody is trusted."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..accounting.events import Event, Skellam
from ..budget import View
from ..derive import digest
from ..encoding.quantization import round_randomly
from ..encoding.rotation import padded, rotate, unrotate
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.keystream import Keystream
from ..noise.skellam import LEAST_VARIANCE, MOST_VARIANCE, skellam
from .base import SPREAD, Draw, Grid, Mechanism, Words, count_of, fit_ring
from .dropout_noise import layer_noise, steps_of_dropouts

EDGE, MANY = 0.1, 1e-5
"""The width of each end of a sum's range, and the share of its coordinates there from which on it is crowded."""

DEVIATIONS = 6.0
"""The room for noise in a sum, in standard deviations: 2e-9 of the coordinates lie beyond."""

ROUNDING_COST, NEGLIGIBLE = 0.02, 0.001
"""The largest fraction that random rounding may add to the sensitivity; below NEGLIGIBLE a finer grid is useless."""

LEAST_STEPS = 64
"""The fewest grid steps in one clip norm with distributed noise."""

MOST_SHARE = 2.0**12
"""The largest standard deviation, in steps, of one device's noise for which a grid is chosen."""


@dataclass(frozen=True)
class DerivedNumbers:
    """The numbers that follow from a plan, in the order of their derivation (`Distributed.numbers`). Public.

    `honest` is h, the fewest honest devices in a sum. `withstood` and `weights` hold q_i and w_i, for each number of
    layers of noise from zero. `sensitivity` is a real number, not in steps.
    """

    dimension: int
    honest: int
    withstood: tuple[int, ...]
    weights: tuple[float, ...]
    grid: Grid
    sensitivity: float


class Distributed(Mechanism):
    """Each device adds a Skellam share of the noise to its randomly rounded vector, inside the secure sum.

    With n planned devices, c colluders among them and at least S survivors, any sum has the noise of at least
    h = S - c honest devices. So a device adds 1 / h of the claimed variance.

    With `privacy.shares = "xnoise"` a device adds 1 / (n - c) of it, which suffices if nobody drops out, and layers
    of noise on top. With the first i layers its noise is w_i = 1 / (n - q_i - c) of the claimed variance. That
    suffices for q_i dropouts, because at least n - q_i - c honest devices remain. When the dropouts are known, the
    devices reveal the seeds of the layers that are not needed, and the server subtracts these exactly.

    Reference: Jiang, Wang, Chen 2024, Dordis, section 4.
    """

    @cached_property
    def numbers(self) -> DerivedNumbers:
        """All numbers of the mechanism, each from the ones before it.

        1. The vector is rotated, so it has the padded dimension d.
        2. c and S give the dropouts q_i that the noise withstands, and the variances w_i of one device's noise.
        3. The range is the largest coordinate of the sum: `SPREAD` times the average coordinate of a sum of equal
           vectors, plus `DEVIATIONS` standard deviations of the noise, at the survivors for whom it is largest. A
           larger sum wraps, so the ring has room for one range, not for one of each device.
        4. Rotation keeps the norm of a clipped vector. Random rounding adds at most a quarter of a step squared to
           the mean square of each coordinate. So the root mean square sensitivity is sqrt(clip^2 + d step^2 / 4). It
           is (1 + x) clip for small x if the step is clip sqrt(8 x / d). The coarsest step has x = `ROUNDING_COST`;
           one with x below `NEGLIGIBLE`, or with a device's noise above `MOST_SHARE` steps, is finer than useful.

        Reference: Agarwal, Kairouz, Liu 2021, section 4.
        """
        plan, p, n, z = self.plan, self.plan.privacy, self.plan.cohort.size, self.noise_multiplier
        dimension = padded((plan.model.parameters or plan.parameters) + (p.clip_quantile is not None))

        colluders, least = plan.quorum
        honest = least - colluders
        withstood = (n - least,) if p.shares == "floor" else steps_of_dropouts(n - colluders, n - least)
        weights, largest, fewest_dropouts = list[float](), 0.0, 0
        for dropouts in withstood:
            weights.append(1 / (n - dropouts - colluders))
            largest = max(largest, (n - fewest_dropouts) * weights[-1])
            fewest_dropouts = dropouts + 1

        added = plan.training.batch_size if p.unit == "record" else n
        noise = DEVIATIONS * z * math.sqrt((1 + ROUNDING_COST) * largest)
        most, given = p.clip_norm * (noise + SPREAD * added / math.sqrt(dimension)), plan.aggregation.range
        span = most if given is None else given * p.clip_norm

        coarsest = p.clip_norm * min(math.sqrt(8 * ROUNDING_COST / dimension), 1 / LEAST_STEPS)
        finest = max(math.sqrt(8 * NEGLIGIBLE / dimension), z / math.sqrt(honest) / MOST_SHARE)
        useful = min(p.clip_norm * finest, coarsest)
        ring, bound, step = fit_ring(span, coarsest, useful, 1, plan.aggregation.bits)
        sensitivity = math.hypot(self.exact_sensitivity, math.sqrt(dimension) * step / 2)

        grid = Grid(span, coarsest, ring, bound, step, step)
        return DerivedNumbers(dimension, honest, withstood, tuple(weights), grid, sensitivity)

    @property
    def grid(self) -> Grid:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The grid of the sums, on which the noise is added too."""
        return self.numbers.grid

    @cached_property
    def dimension(self) -> int:
        """The number of coordinates of the rotated vector."""
        return self.coordinates(self.plan.parameters)

    def coordinates(self, parameters: int) -> int:
        """The number of coordinates of the rotated vector, for a network of `parameters` parameters."""
        return padded(super().coordinates(parameters))

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the plan's sum in L2, root mean square over the random rounding."""
        del dimension
        return self.numbers.sensitivity

    def noise_std(self, dimension: int) -> float:
        """The standard deviation of the claimed noise on the plan's sum, as a real number, not in steps."""
        del dimension
        return self.noise_multiplier * self.numbers.sensitivity

    @cached_property
    def variance(self) -> float:
        """The claimed variance of the noise, (noise multiplier x sensitivity / step)^2, in steps squared."""
        return (self.noise_multiplier * self.numbers.sensitivity / self.grid.step) ** 2

    @property
    def share_variance(self) -> float:
        """The variance of one device's noise without the layers, in steps squared."""
        return self.variance * self.numbers.weights[0]

    @property
    def layers(self) -> tuple[float, ...]:
        """The variance that each layer adds to one device's noise, in steps squared."""
        return tuple(self.variance * (more - less) for less, more in pairwise(self.numbers.weights))

    def kept_layers(self, survivors: int) -> int:
        """The least number of layers with which the noise suffices for the missing devices."""
        withstood = self.numbers.withstood
        return min(bisect_left(withstood, self.plan.cohort.size - survivors), len(withstood) - 1)

    def relative_variance(self, survivors: int, devices: int) -> float:
        """The variance of the noise of `devices` devices in a sum over `survivors`, over the claimed variance."""
        return devices * self.numbers.weights[self.kept_layers(survivors)]

    @property
    def in_words(self) -> Words:
        """What a report says of distributed noise and of its shares."""
        share = (self.share_variance + sum(self.layers)) ** 0.5
        shares = (
            f"{self.numbers.honest:,} suffice: a sum has at least {count_of(self.plan.least_survivors, 'device')},"
            f" and at most {self.plan.colluders:,} may reveal their shares to the server. A share has a standard"
            f" deviation of {share:,.1f} steps"
        )
        if self.layers:
            layers = count_of(len(self.layers), "layer")
            shares += f" and contains {layers} for dropouts; layers that no dropout needs are removed"
        return Words(
            "distributed: each device adds a Skellam share of the noise before the secure sum",
            "least standard deviation in units of the clip norm and its rounding",
            "the Rényi bound (RDP) of Skellam noise on randomly rounded sums, for the noise that arrived",
            (("Shares of the noise", shares),),
        )

    def planned(self, noise_multiplier: float) -> Event:
        """The event on the coarsest grid. On a finer grid the noise has more steps and costs no more."""
        coarsest = self.clip_norm * min(math.sqrt(8 * ROUNDING_COST / self.dimension), 1 / LEAST_STEPS)
        return self.sampled(Skellam(noise_multiplier, (noise_multiplier * self.clip_norm / coarsest) ** 2))

    def sum_event(self, view: View, survivors: int) -> Event:
        """The event for the honest devices' noise. Colluders may reveal their noise to the server, or add none.

        Unneeded layers count as removed, whether or not all devices revealed their seeds.
        """
        del view
        arrived = self.relative_variance(survivors, survivors - self.plan.colluders)
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
        `kept_layers(survivors)`
        layers of each device stay in the sum. After the rounding all arithmetic is on integers.
        Reference: Agarwal et al. 2021; Jiang, Wang, Chen 2024 for the layers.

        Raises:
            ValueError: the vector is not clipped or of another model, or the number of seeds is wrong.
        """
        if not isinstance(vector, Clipped) or len(vector.vector) != self.plan.parameters + self.plan.adaptive:
            raise ValueError("a vector that is not clipped, or of another model")
        draws = draw("noise", 0)
        finite = vector.vector if np.isfinite(vector.vector).all() else np.zeros(len(vector.vector))
        rounded = round_randomly(rotate(finite, self.rotation(round)), self.grid.step, draws)
        share = skellam(self.share_variance, len(rounded), draws)
        return Contribution(rounded + share + layer_noise(self.layers, layers, len(rounded)))

    def crowded(self, total: Sum) -> int:
        """Return how many coordinates of a sum lie in the last tenth of its range; 0 if noise alone explains them.

        Noise puts a coordinate there with probability 7e-8, in the range that follows from the plan. So a million
        coordinates are taken for crowded with probability 1e-20.
        """
        found = int(np.count_nonzero(np.abs(total.vector) > (1 - EDGE) * self.grid.bound))
        return found if found > max(10, MANY * len(total.vector)) else 0

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the release of the sum, which already holds its noise."""
        del noise, past
        count = self.plan.parameters + self.plan.adaptive
        return self.averaged(unrotate(self.decoded(total), self.rotation(round), count)), None


mechanism = Distributed
"""The mechanism of a plan with `noise = "distributed"`."""
