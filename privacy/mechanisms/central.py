"""Central noise: the server, which is trusted, adds Gaussian noise to the sum of devices' clipped vectors.

The noise of the rounds is independent (`Central`), or correlated over rounds (`Banded`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..accounting.events import Event, Unbounded
from ..budget import View
from ..encoding.quantization import dequantize, quantize
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.gaussian import LEAST_STD, MOST_STD, gaussian
from ..noise.keystream import Keystream
from ..plan.plan import Plan
from ..plan.schema import MOST_PARAMETERS
from .base import FINEST, SPREAD, Draw, Grid, Mechanism, Words, count_of, fit_ring
from .correlation import Correlation, weights_norm
from .factorisation import coefficients, relative_error, release_deviation, whole_weights

FINE = 2.0**-15
"""The coarsest grid step of the sums, in clip norms. Rounding adds to the sensitivity, so the step is small."""

DEVIATIONS = 12.0
"""The room for noise in a sum, in standard deviations. Beyond 11 lies a probability of 4e-28; the twelfth is for the
small increase of the noise scale by rounding."""


class Central(Mechanism):
    """The server adds Gaussian noise to the sum."""

    refines: ClassVar[bool] = True
    """Whether noise is added on a finer grid than the sums', as fine as words of 64 bits allow."""

    @property
    def budget_view(self) -> View:
        """`released`: the server is trusted."""
        return "released"

    @property
    def in_words(self) -> Words:
        """What a report says of central noise."""
        return Words("central: the server adds the noise to the sum")

    @cached_property
    def grid(self) -> Grid:
        """The grid of the sums, and the finer one on which the server adds noise.

        The range of a change is the clip norm; the range of a gradient sum is `SPREAD` times a device's average part
        of a batch whose gradients agree. Rounding on the coarsest grid adds little to the sensitivity.

        Noise is added modulo the ring, so the ring has room for the noise too. Beside each vector it has room for
        `DEVIATIONS` standard deviations of one release's noise, divided by the cohort's size. A ring of 64 bits
        always has that room, because a device's coordinates need at most 46 bits.
        """
        plan, size, clip = self.plan, self.plan.cohort.size, self.plan.privacy.clip_norm
        most, given = clip, plan.aggregation.range
        if plan.privacy.unit != "client":
            most = clip * max(1.0, min(1.0, SPREAD / size) * plan.training.batch_size)
        range, coarsest = most if given is None else given * clip, FINE * clip
        noise = DEVIATIONS * self.noise_growth * self.noise_multiplier * self.exact_sensitivity
        span = range + noise / size
        ring, bound, step = fit_ring(span, coarsest, clip / FINEST, size, plan.aggregation.bits, range)
        if ring.bits < 64 and bound:
            bound = min(bound, math.ceil(range / step))
        refinement = 1
        if self.refines and bound:
            room = (1 << 62) // (bound * size) if ring.bits == 64 else 1 << (61 - ring.bits)
            refinement = max(1, min(room, int(FINEST * step / clip)))
        return Grid(range, coarsest, ring, bound, step, step / refinement, refinement)

    @property
    def noise_growth(self) -> float:
        """An upper bound on the standard deviation of one release's noise, divided by that of independent noise."""
        return 1.0

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the rounded sum in L2: the exact sensitivity plus 2 sqrt(dimension) grid steps.

        Each coordinate may move by one more step through rounding, and by one more through a carry from the next
        lane of the ring's word.
        """
        return self.exact_sensitivity + 2 * math.sqrt(dimension) * self.grid.step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler supports the standard deviation of the noise, in steps."""
        return LEAST_STD <= self.noise_std(1) / self.grid.noise_step <= MOST_STD / 2

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
        return Contribution(quantize(vector.vector, self.grid.step, self.grid.bound))

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
        return self.noise_std(count) / self.grid.noise_step

    def with_noise(self, total: Sum, noise: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum plus noise, reduced modulo the ring, so the result depends only on the sum modulo the ring.

        Otherwise a hostile device could bring a coordinate to the edge of the ring, where one record decides whether
        it wraps. Noise added after the wrap would not hide a difference as large as the ring.
        """
        bits, refinement = self.grid.ring.bits, self.grid.refinement
        noised = total.vector * refinement + noise
        if bits < 64:  # in 64 bits, int64 wraps by itself
            size = refinement << bits
            noised = np.mod(noised + size // 2, size) - size // 2
        return dequantize(noised, self.grid.noise_step)


class Banded(Central):
    """The server adds noise that cancels part of the noise of the `bands - 1` rounds before: see `privacy.bands`.

    The integer weights already make fresh noise finer than a grid step.

    Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization.
    """

    refines = False

    @property
    def noise_growth(self) -> float:
        """The standard deviation of one release's noise, in standard deviations of independent noise, rounded up to a
        power of two. It is above one, because later releases cancel part of the noise.
        """
        plan = self.plan
        return 2.0 ** math.ceil(math.log2(release_deviation(plan.cohort.rounds, plan.bands, plan.server.momentum)))

    @property
    def in_words(self) -> Words:
        """What a report says of correlated noise."""
        plan = self.plan
        left = relative_error(plan.cohort.rounds, plan.bands, plan.server.momentum)
        correlation = (
            f"{plan.bands} bands: each round subtracts part of the noise of the previous"
            f" {count_of(plan.bands - 1, 'round')}. A client sits out that many rounds after each of its own. The"
            f" model carries {left:.0%} of the noise that independent noise would leave in it (root mean square over"
            " all rounds, predicted for a run without a crash)"
        )
        return replace(super().in_words, rows=(("Correlation of the noise", correlation),))

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
        return self.noise_std(1) / self.grid.noise_step >= LEAST_STD

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
            raise ValueError("correlated noise needs its state")
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


def mechanism(plan: Plan) -> Central:
    """Return the mechanism of a plan with `noise = "central"`: correlated noise for `privacy.bands` above 1."""
    return Central(plan) if (plan.privacy.bands or 1) == 1 else Banded(plan)
