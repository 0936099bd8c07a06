"""Local noise: each device adds Gaussian noise to its own vector, which protects against everyone.

In a record-level plan a device adds noise to each of its DP-SGD steps; in a client-level plan, to its whole change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..encoding.quantization import dequantize, quantize
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.gaussian import LEAST_STD, MOST_STD, gaussian
from ..noise.keystream import Keystream
from .base import FINEST, SPREAD, Draw, Grid, Mechanism, Words, fit_ring

COARSE = 2.0**-3
"""The coarsest grid step of the sums, in standard deviations of a device's own noise."""

BLOCK = 1 << 16
"""How many noise samples one call draws for consecutive steps: the call itself costs as much as 10,000 samples."""


class Local(Mechanism):
    """Each device adds Gaussian noise to its own gradient sums, or to its own change of the model."""

    @property
    def noised_alone(self) -> bool:
        """True: a device's vector holds all of its noise."""
        return True

    @property
    def sums_gradients(self) -> bool:
        """False: a device steps on its noised gradient sums itself, and sends its change of the model."""
        return False

    @property
    def in_words(self) -> Words:
        """What a report says of local noise."""
        return Words("local: each device adds noise to its own update")

    @cached_property
    def grid(self) -> Grid:
        """The grid of the sums of changes; a device adds noise on the finest grid.

        The range is the clip norm of a client's change, or four times the largest change by all of a device's steps
        (with momentum m, 1 / (1 - m) times as large), plus `SPREAD` standard deviations of the noise. Rounding on the
        coarsest grid adds little to a device's noise.
        """
        plan, t, clip, z = self.plan, self.plan.training, self.plan.privacy.clip_norm, self.noise_multiplier
        if plan.privacy.unit == "client":
            scale, most = 1.0, clip * (1.0 + SPREAD * z)
        else:
            rate = t.learning_rate / (1 - (t.momentum or 0.0))
            scale = rate / t.batch_size
            deviations = SPREAD * z * math.sqrt(t.local_steps) / t.batch_size
            most = clip * rate * (4.0 * t.local_steps + deviations)
        given, finest = plan.aggregation.range, clip / FINEST
        range = most if given is None else given * clip
        coarsest = max(COARSE * (z * clip) * scale, finest)
        ring, bound, step = fit_ring(range, coarsest, finest, plan.cohort.size, plan.aggregation.bits)
        return Grid(range, coarsest, ring, bound, step, finest)

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves, in L2, a device's vector that is rounded to the noise grid.

        Adding a unit moves the vector by at most the clip norm. Rounding moves each coordinate of both vectors by at
        most half a step, so it adds at most sqrt(dimension) steps to their difference.
        """
        return self.exact_sensitivity + math.sqrt(dimension) * self.grid.noise_step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler supports the standard deviation of the noise, in steps."""
        return LEAST_STD <= self.noise_std(1) / self.grid.noise_step <= MOST_STD / 2

    def total_noise_std(self, dimension: int) -> float:
        """The standard deviation of the noise of all devices of the cohort together."""
        return math.sqrt(self.plan.cohort.size) * self.noise_std(dimension)

    def noise(self, count: int, steps: int, draw: Draw) -> Iterator[NDArray[np.int64]]:
        """Yield the noise of one step after another, int64 [count], secret.

        One call draws the noise of several steps, up to `BLOCK` samples. `draw` returns the keystream of
        ("noise", step).
        """
        block = max(1, BLOCK // count)
        for first in range(0, steps, block):
            rows = min(block, steps - first)
            made = gaussian(self.noise_std(count) / self.grid.noise_step, rows * count, draw("noise", first))
            yield from made.reshape(rows, count)

    def noised(self, clipped: Clipped, noise: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a clipped vector with noise, float64 [count]. `noise` comes from `noise()` and is used once.

        Guarantee: the Gaussian mechanism of `noise_multiplier`.
        """
        steps = quantize(clipped.vector, self.grid.noise_step)
        return dequantize(np.add(steps, noise, out=steps), self.grid.noise_step)

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the vector on the sums' grid.

        A clipped change gets its noise here. The change of a record-level plan already has its noise, from the steps.

        Guarantee: the Gaussian mechanism of `noise_multiplier` on a clipped change.

        Raises:
            ValueError: the change of a client is not clipped.
        """
        del round, layers
        if self.plan.privacy.unit == "client":
            if not isinstance(vector, Clipped):
                raise ValueError("a change that is not clipped")
            vector = Update(self.noised(vector, next(self.noise(len(vector.vector), 1, draw))))
        return Contribution(quantize(vector.vector, self.grid.step, self.grid.bound))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the average of the devices' changes, which carry their own noise."""
        del round, noise, past
        return self.averaged(self.decoded(total)), None


mechanism = Local
"""The mechanism of a plan with `noise = "local"`."""
