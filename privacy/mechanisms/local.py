"""Local noise: each device adds Gaussian noise to its own vector, which protects against everyone.

In a record-level plan a device adds noise to each of its DP-SGD steps; in a client-level plan, to its whole change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..encoding.quantization import dequantize, quantize
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.gaussian import LEAST_STD, MOST_STD, gaussian
from ..noise.keystream import Keystream
from .base import FINEST, SPREAD, Draw, Mechanism

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
    def generous_range(self) -> float:
        """The clip norm of a change, or four times the largest change by all steps; plus `SPREAD` deviations."""
        t, noise_multiplier = self.plan.training, self.noise_multiplier
        if self.plan.privacy.unit == "client":
            return self.clip_norm * (1.0 + SPREAD * noise_multiplier)
        deviations = SPREAD * noise_multiplier * math.sqrt(t.local_steps) / t.batch_size
        return self.clip_norm * t.learning_rate * (4.0 * t.local_steps + deviations)

    @property
    def coarsest_step(self) -> float:
        """The coarsest grid step for which rounding adds little to a device's own noise."""
        t, deviation = self.plan.training, self.noise_multiplier * self.clip_norm
        scale = t.learning_rate / t.batch_size if self.plan.privacy.unit == "record" else 1.0
        return max(COARSE * deviation * scale, self.clip_norm / FINEST)

    @property
    def noise_step(self) -> float:
        """The value of one step of the grid on which a device adds noise."""
        return self.clip_norm / FINEST

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves, in L2, a device's vector that is rounded to the noise grid.

        Adding a unit moves the vector by at most the clip norm. Rounding moves each coordinate of both vectors by at
        most half a step, so it adds at most sqrt(dimension) steps to their difference.
        """
        return self.exact_sensitivity + math.sqrt(dimension) * self.noise_step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler supports the standard deviation of the noise, in steps."""
        return LEAST_STD <= self.noise_std(1) / self.noise_step <= MOST_STD / 2

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
            made = gaussian(self.noise_std(count) / self.noise_step, rows * count, draw("noise", first))
            yield from made.reshape(rows, count)

    def noised(self, clipped: Clipped, noise: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a clipped vector with noise, float64 [count]. `noise` comes from `noise()` and is used once.

        Guarantee: the Gaussian mechanism of `noise_multiplier`.
        """
        steps = quantize(clipped.vector, self.noise_step)
        return dequantize(np.add(steps, noise, out=steps), self.noise_step)

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the vector on the sums' grid.

        A clipped change gets its noise here. The change of a record-level plan has it already, from the steps.

        Guarantee: the Gaussian mechanism of `noise_multiplier` on a clipped change.

        Raises:
            ValueError: the change of a client is not clipped.
        """
        del round, layers
        if self.plan.privacy.unit == "client":
            if not isinstance(vector, Clipped):
                raise ValueError("a change that is not clipped")
            vector = Update(self.noised(vector, next(self.noise(len(vector.vector), 1, draw))))
        return Contribution(quantize(vector.vector, self.grid_step, self.bound))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the average of the devices' changes, which carry their own noise."""
        del round, noise, past
        return self.averaged(self.decoded(total)), None
