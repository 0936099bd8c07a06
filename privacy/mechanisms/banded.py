"""Central noise that is correlated over rounds, for client-level plans with `privacy.bands`.

Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..encoding.vectors import Release, Sum
from ..noise.gaussian import LEAST_STD
from ..noise.keystream import Keystream
from ..plan.schema import MOST_PARAMETERS
from .central import Central
from .correlation import Correlation
from .factorisation import coefficients, release_deviation, whole_weights


class Banded(Central):
    """The server adds noise that cancels part of the noise of the `bands - 1` rounds before."""

    @property
    def swell(self) -> float:
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
        drawn, after = past.draw(self._std(count), count, noise)
        return self.averaged(self.with_noise(total, drawn)), after
