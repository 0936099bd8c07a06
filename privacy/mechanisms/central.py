"""Central noise: the server, which is trusted, adds Gaussian noise to the sum of what devices send clipped."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..accounting.events import Event, Unbounded
from ..budget import View
from ..encoding.quantization import dequantize, quantize
from ..encoding.ring import Ring
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.gaussian import LEAST_STD, MOST_STD, gaussian
from ..noise.keystream import Keystream
from .base import FINEST, SPREAD, Draw, Mechanism
from .correlation import Correlation

FINE = 2.0**-15
"""How coarse the grid of the sums may be, in clip norms: rounding adds to the sensitivity."""

DEVIATIONS = 12.0
"""How many standard deviations of its noise a sum has room for: beyond 11 lies a mass of 4e-28, and its scale grows a
little with rounding."""


class Central(Mechanism):
    """The server adds Gaussian noise to the sum."""

    @property
    def budget_view(self) -> View:
        """What is released: the server is trusted."""
        return "released"

    @property
    def generous_range(self) -> float:
        """`SPREAD` times a device's even share of a batch that agrees; a clipped change fits as it is."""
        if self.plan.privacy.unit == "client":
            return self.clip_norm
        share = min(1.0, SPREAD / self.plan.cohort.size) * self.plan.training.batch_size
        return self.clip_norm * max(1.0, share)

    @property
    def swell(self) -> float:
        """How many times the deviation of independent noise that of one release may be."""
        return 1.0

    @property
    def span(self) -> float:
        """The range, and each device's part of the room for the noise beside the whole cohort's sum."""
        noise = DEVIATIONS * self.swell * self.noise_multiplier * self.exact_sensitivity
        return self.range + noise / self.plan.cohort.size

    def step_in(self, ring: Ring) -> float:
        """The value of one step in this ring, which has room for the noise.

        One of 64 bits always has, beside the range: a device uses 46 of them at most.
        """
        room, span = ring.bound(self.plan.cohort.size), self.span if ring.bits < 64 else self.range
        return max(span / room, self.clip_norm / FINEST) if room else math.inf

    def bound_in(self, ring: Ring) -> int:
        """The largest coordinate of one device's vector in steps: the cohort's sum leaves room for the noise."""
        most = ring.bound(self.plan.cohort.size)
        return min(most, math.ceil(self.range / self.step_in(ring))) if ring.bits < 64 and most else most

    @property
    def coarsest_step(self) -> float:
        """The coarsest step that adds little to the sensitivity."""
        return FINE * self.clip_norm

    @property
    def refinement(self) -> int:
        """By how much the grid that noise is added on is finer than the sums' own."""
        bits = self.ring.bits
        room = (1 << 62) // (self.bound * self.plan.cohort.size) if bits == 64 else 1 << (61 - bits)
        return max(1, min(room, int(FINEST * self.grid_step / self.clip_norm)))

    @property
    def noise_step(self) -> float:
        """The value of a step of the grid that the server adds noise on."""
        return self.grid_step / self.refinement

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the rounded sum, in L2.

        Beside what it moves a real sum by, each coordinate moves by a step at most, and by one that a lane of the
        ring carries.
        """
        return self.exact_sensitivity + 2 * math.sqrt(dimension) * self.grid_step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler takes such a standard deviation."""
        return LEAST_STD <= self.noise_std(1) / self.noise_step <= MOST_STD / 2

    def sum_event(self, view: View, survivors: int) -> Event:
        """No bound against the server, which sees the sum without noise."""
        return Unbounded() if view == "server" else super().sum_event(view, survivors)

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the clipped vector on the sums' grid.

        Guarantee: the sum over the plan's cohort cannot overflow the ring.

        Raises:
            ValueError: the vector is not clipped.
        """
        del round, draw, layers
        if not isinstance(vector, Clipped):
            raise ValueError("a vector that is not clipped")
        return Contribution(quantize(vector.vector, self.grid_step, self.bound))

    def release(
        self, total: Sum, round: int, noise: Keystream, past: Correlation | None = None
    ) -> tuple[Release, Correlation | None]:
        """Return what the sum with the plan's noise releases.

        Guarantee: the Gaussian mechanism of `noise_multiplier` on the sum.
        """
        del round, past
        count = len(total.vector)
        return self.averaged(self.with_noise(total, gaussian(self._std(count), count, noise))), None

    def _std(self, count: int) -> float:
        """Return the standard deviation of the noise on a sum, in steps of the grid that it is added on."""
        return self.noise_std(count) / self.noise_step

    def with_noise(self, total: Sum, noise: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum with noise, modulo the ring, so that it depends on the sum modulo the ring alone.

        Else a hostile device could bring a coordinate to the edge of the ring, where one record decides whether it
        wraps: noise that is added to what is left of it after that would not hide a step as large as the ring.
        """
        noised = total.vector * self.refinement + noise
        if self.ring.bits < 64:  # one of 64 bits wraps by itself
            size = self.refinement << self.ring.bits
            noised = np.mod(noised + size // 2, size) - size // 2
        return dequantize(noised, self.noise_step)
