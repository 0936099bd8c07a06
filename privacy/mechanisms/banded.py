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
    """The server adds noise that takes back part of the noise of the `bands - 1` rounds before."""

    @property
    def swell(self) -> float:
        """How many times the deviation of independent noise that of one release is, up to the next power of two.

        More than once, as later releases take noise back.
        """
        plan = self.plan
        return 2.0 ** math.ceil(math.log2(release_deviation(plan.cohort.rounds, plan.bands, plan.server.momentum)))

    @property
    def refinement(self) -> int:
        """One: the fresh part of the noise is made in fractions of a step, as fine as its weights are."""
        return 1

    def weights(self, dimension: int) -> NDArray[np.int64]:
        """Return the whole numbers, int64 [bands], that correlate noise on sums of `dimension` parameters; public.

        Raises:
            ValueError: there is no room in 64 bits for such noise.
        """
        best = coefficients(self.plan.cohort.rounds, self.plan.bands, self.plan.server.momentum)
        return whole_weights(best, self._std(dimension))

    @property
    def can_make_noise(self) -> bool:
        """Whether noise can be made and correlated, however many parameters the model has."""
        try:
            self.weights(MOST_PARAMETERS)
        except ValueError:
            return False
        return self.noise_std(1) / self.noise_step >= LEAST_STD

    def fresh_correlation(self, parameters: int) -> Correlation:
        """Return what the first round's noise is made of: fresh noise alone, by the plan's weights."""
        return Correlation(self.weights(self.coordinates(parameters)))

    def release(
        self, total: Sum, round: int, noise: Keystream, past: Correlation | None = None
    ) -> tuple[Release, Correlation | None]:
        """Return what the sum with correlated noise releases, and what the next round's noise is made of, secret.

        Guarantee: for a client whose rounds lie `plan.bands` apart, the Gaussian mechanism of `noise_multiplier` a
        round, as `factorisation.py` proves; as long as no two releases are made from one `past`.

        Raises:
            ValueError: there is no past to go on from.
        """
        del round
        if past is None:
            raise ValueError("correlated noise without what it is made of")
        count = len(total.vector)
        drawn, after = past.draw(self._std(count), count, noise)
        return self.averaged(self.with_noise(total, drawn)), after
