"""Central noise: the server, which is trusted, adds Gaussian noise to the sum of devices' clipped vectors.

The noise of the rounds is independent (`Central`), or correlated over rounds (`Banded`).
"""

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
from ..plan.schema import MOST_PARAMETERS
from .base import FINEST, SPREAD, Draw, Mechanism
from .correlation import Correlation, weights_norm
from .factorisation import coefficients, release_deviation, whole_weights

FINE = 2.0**-15
"""The coarsest grid step of the sums, in clip norms. Rounding adds to the sensitivity, so the step is small."""

DEVIATIONS = 12.0
"""The room for noise in a sum, in standard deviations. Beyond 11 lies a probability of 4e-28; the twelfth is for the
small increase of the noise scale by rounding."""


class Central(Mechanism):
    """The server adds Gaussian noise to the sum."""

    @property
    def budget_view(self) -> View:
        """`released`: the server is trusted."""
        return "released"

    @property
    def generous_range(self) -> float:
        """`SPREAD` times a device's average part of a batch whose gradients agree; for changes, the clip norm."""
        if self.plan.privacy.unit == "client":
            return self.clip_norm
        share = min(1.0, SPREAD / self.plan.cohort.size) * self.plan.training.batch_size
        return self.clip_norm * max(1.0, share)

    @property
    def noise_growth(self) -> float:
        """An upper bound on the standard deviation of one release's noise, divided by that of independent noise."""
        return 1.0

    @property
    def span(self) -> float:
        """The range plus a device's part of the room for noise: that room divided by the cohort's size."""
        noise = DEVIATIONS * self.noise_growth * self.noise_multiplier * self.exact_sensitivity
        return self.range + noise / self.plan.cohort.size

    def step_in(self, ring: Ring) -> float:
        """The value of one grid step in this ring, such that sum and noise fit.

        A ring of 64 bits always has room for the noise, because a device's coordinates need at most 46 bits.
        """
        room, span = ring.bound(self.plan.cohort.size), self.span if ring.bits < 64 else self.range
        return max(span / room, self.clip_norm / FINEST) if room else math.inf

    def bound_in(self, ring: Ring) -> int:
        """The largest coordinate of one device's vector, in steps, such that the cohort's sum and the noise fit."""
        most = ring.bound(self.plan.cohort.size)
        return min(most, math.ceil(self.range / self.step_in(ring))) if ring.bits < 64 and most else most

    @property
    def coarsest_step(self) -> float:
        """The coarsest grid step that adds little to the sensitivity."""
        return FINE * self.clip_norm

    @property
    def refinement(self) -> int:
        """The number of noise steps in one grid step."""
        bits = self.ring.bits
        room = (1 << 62) // (self.bound * self.plan.cohort.size) if bits == 64 else 1 << (61 - bits)
        return max(1, min(room, int(FINEST * self.grid_step / self.clip_norm)))

    @property
    def noise_step(self) -> float:
        """The value of one step of the grid on which the server adds noise."""
        return self.grid_step / self.refinement

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the rounded sum in L2: the exact sensitivity plus 2 sqrt(dimension) grid steps.

        Each coordinate may move by one more step through rounding, and by one more through a carry from the next
        lane of the ring's word.
        """
        return self.exact_sensitivity + 2 * math.sqrt(dimension) * self.grid_step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler supports the standard deviation of the noise, in steps."""
        return LEAST_STD <= self.noise_std(1) / self.noise_step <= MOST_STD / 2

    def sum_event(self, view: View, survivors: int) -> Event:
        """The plan's event; unbounded in the server's view, because the server sees the sum without noise."""
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
        """Return the release: the sum with Gaussian noise, averaged.

        Guarantee: the Gaussian mechanism of `noise_multiplier` on the sum.
        """
        del round, past
        count = len(total.vector)
        return self.averaged(self.with_noise(total, gaussian(self._std(count), count, noise))), None

    def _std(self, count: int) -> float:
        """Return the standard deviation of the noise on a sum, in noise steps."""
        return self.noise_std(count) / self.noise_step

    def with_noise(self, total: Sum, noise: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum with noise, modulo the ring, so that it depends only on the sum modulo the ring.

        Otherwise a hostile device could bring a coordinate to the edge of the ring, where one record decides whether
        it wraps. Noise added after the wrap would not hide a difference as large as the ring.
        """
        noised = total.vector * self.refinement + noise
        if self.ring.bits < 64:  # in 64 bits, int64 wraps by itself
            size = self.refinement << self.ring.bits
            noised = np.mod(noised + size // 2, size) - size // 2
        return dequantize(noised, self.noise_step)


class Banded(Central):
    """The server adds noise that cancels part of the noise of the `bands - 1` rounds before: see `privacy.bands`.

    Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization.
    """

    @property
    def noise_growth(self) -> float:
        """The standard deviation of one release's noise, divided by that of independent noise, and rounded up to a
        power of two. It is above one, because later releases cancel part of the noise.
        """
        plan = self.plan
        return 2.0 ** math.ceil(math.log2(release_deviation(plan.cohort.rounds, plan.bands, plan.server.momentum)))

    @property
    def refinement(self) -> int:
        """One: the integer weights already make the fresh noise finer than a grid step."""
        return 1

    def weights(self, dimension: int) -> NDArray[np.int64]:
        """Return the integer weights, int64 [bands], that correlate noise on sums of `dimension` parameters; public.

        Raises:
            ValueError: such noise does not fit into 64 bits.
        """
        best = coefficients(self.plan.cohort.rounds, self.plan.bands, self.plan.server.momentum)
        return whole_weights(best, self._std(dimension))

    @property
    def can_make_noise(self) -> bool:
        """Whether noise can be drawn and correlated for models of any number of parameters."""
        try:
            self.weights(MOST_PARAMETERS)
        except ValueError:
            return False
        return self.noise_std(1) / self.noise_step >= LEAST_STD

    def fresh_correlation(self, parameters: int) -> Correlation:
        """Return the state for the first round's noise: the plan's weights, and no past noise."""
        return Correlation(self.weights(self.coordinates(parameters)))

    def release(
        self, total: Sum, round: int, noise: Keystream, past: Correlation | None = None
    ) -> tuple[Release, Correlation | None]:
        """Return the release, which has correlated noise, and the state for the next round's noise, which is secret.

        Guarantee: for a client whose rounds lie at least `plan.bands` apart, each of its rounds costs one Gaussian
        mechanism of `noise_multiplier`, as `factorisation.py` proves. No two releases may use the same `past`.

        Raises:
            ValueError: `past` is None.
        """
        del round
        if past is None:
            raise ValueError("correlated noise without what it is made of")
        count = len(total.vector)
        drawn, after = correlated_gaussian(self._std(count), count, noise, past)
        return self.averaged(self.with_noise(total, drawn)), after


def correlated_gaussian(
    std: float, count: int, keystream: Keystream, past: Correlation
) -> tuple[NDArray[np.int64], Correlation]:
    """Return a round's correlated noise, int64 [count], secret, and the state for the next round's noise.

    `std` is the standard deviation, in steps, of the independent noise that this noise replaces: noise multiplier
    times sensitivity.

    Raises:
        ValueError: the sampler does not support so much fresh noise, or `past` is of another size.
        OverflowError: the noise outgrows 64 bits.
    """
    return past.follow(gaussian(std * weights_norm(past.weights), count, keystream))
