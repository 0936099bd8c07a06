"""One class for each place of noise: the grid that sums live on, how much noise goes on it, and what it costs.

Each reads the fields of one plan, so mechanism and accounting cannot disagree. `Plan` picks the class and passes its
answers on.
"""

from __future__ import annotations

import math

from ..accounting.events import Event, Unbounded
from ..budget import View
from ..encoding.ring import Ring
from .banded import release_deviation
from .base import GRID, SPREAD, Base
from .distributed import Distributed

FINE, COARSE = 2.0**-15, 2.0**-3
"""How coarse the grid of the sums may be: in clip norms where the server adds noise to the sum, for rounding adds to
the sensitivity; in standard deviations of a device's own noise where that is in already."""

CENTRAL_DEVIATIONS = 12.0
"""How many standard deviations of its noise a sum has room for: beyond 11 lies a mass of 4e-28, and its scale grows a
little with rounding."""


class Local(Base):
    """Each device adds Gaussian noise to its own sums, or to its own change of the model."""

    @property
    def range(self) -> float:
        """Four times what its steps, or its clipped change, could move a device; and `SPREAD` deviations of noise."""
        t, noise_multiplier = self.plan.training, self.plan.noise_multiplier
        if self.plan.privacy.unit == "client":
            return self.clip_norm * (1.0 + SPREAD * noise_multiplier)
        deviations = SPREAD * noise_multiplier * math.sqrt(t.local_steps) / t.batch_size
        return self.clip_norm * t.learning_rate * (4.0 * t.local_steps + deviations)

    @property
    def coarsest_step(self) -> float:
        """The coarsest step that adds little to a device's own noise."""
        t, deviation = self.plan.training, self.plan.noise_multiplier * self.clip_norm
        scale = t.learning_rate / t.batch_size if self.plan.privacy.unit == "record" else 1.0
        return max(COARSE * deviation * scale, self.clip_norm / GRID)

    @property
    def refinement(self) -> int:
        """One: the noise is in the vectors that are summed."""
        return 1

    @property
    def noise_step(self) -> float:
        """The value of a step of the grid that a device adds noise on."""
        return self.clip_norm / GRID

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves a device's sum, rounded to that grid."""
        return self.move + math.sqrt(dimension) * self.noise_step


class Central(Base):
    """The server adds Gaussian noise to the sum."""

    @property
    def range(self) -> float:
        """`SPREAD` times a device's even share of a batch that agrees; a clipped change fits as it is."""
        if self.plan.privacy.unit == "client":
            return self.clip_norm
        share = min(1.0, SPREAD / self.plan.cohort.size) * self.plan.training.batch_size
        return self.clip_norm * max(1.0, share)

    @property
    def swell(self) -> float:
        """How many times the deviation of independent noise that of one release may be, up to the next power of two.

        More than once where later releases take noise back.
        """
        plan = self.plan
        most = release_deviation(plan.cohort.rounds, plan.bands, plan.server.momentum) if plan.correlated else 1.0
        return 2.0 ** math.ceil(math.log2(most))

    def step(self, ring: Ring) -> float:
        """The value of one step in this ring, which has room for the noise beside the whole cohort's sum.

        One of 64 bits always has: a device uses 46 of them at most.
        """
        size, room = self.plan.cohort.size, ring.bound(self.plan.cohort.size)
        deviations = CENTRAL_DEVIATIONS * self.swell if ring.bits < 64 else 0.0
        noise = deviations * self.plan.noise_multiplier * self.move
        return max((self.plan.range + noise / size) / room, self.clip_norm / GRID) if room else math.inf

    def bound(self, ring: Ring) -> int:
        """The largest coordinate of one device's vector in steps: the cohort's sum leaves room for the noise."""
        step, most = self.step(ring), ring.bound(self.plan.cohort.size)
        return min(most, math.ceil(self.plan.range / step)) if ring.bits < 64 and most else most

    @property
    def coarsest_step(self) -> float:
        """The coarsest step that adds little to the sensitivity."""
        return FINE * self.clip_norm

    @property
    def refinement(self) -> int:
        """By how much the grid that noise is added on is finer than the sums' own.

        One where noise is correlated: its fresh part is made in fractions of a step, as fine as its weights are.
        """
        if self.plan.correlated:
            return 1
        bits = self.plan.ring.bits
        room = (1 << 62) // (self.plan.bound * self.plan.cohort.size) if bits == 64 else 1 << (61 - bits)
        return max(1, min(room, int(GRID * self.plan.grid_step / self.clip_norm)))

    @property
    def noise_step(self) -> float:
        """The value of a step of the grid that the server adds noise on."""
        return self.plan.grid_step / self.refinement

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the rounded sum: each coordinate by a step more, and one that a lane carries."""
        return self.move + 2 * math.sqrt(dimension) * self.plan.grid_step

    def event(self, view: View, survivors: int) -> Event:
        """No bound against the server, which sees the sum without noise."""
        return Unbounded() if view == "server" else super().event(view, survivors)


Place = Local | Distributed | Central
PLACES: dict[str, type[Local] | type[Distributed] | type[Central]] = {
    "local": Local,
    "distributed": Distributed,
    "central": Central,
}
