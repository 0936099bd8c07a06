"""One class for each place of noise: the grid that sums live on, how much noise goes on it, and what it costs.

Each reads the fields of one plan, so mechanism and accounting cannot disagree. `Plan` picks the class and passes its
answers on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .budget import View
from .events import Event, Gaussian, PoissonSampled, Skellam, Unbounded
from .factorisation import release_deviation
from .ring import Ring
from .rotation import padded

if TYPE_CHECKING:
    from .plan import Plan

GRID = 1 << 30
"""Steps in one clip norm of the finest grid: noise is added on it, and no sum has a finer one."""

FINE, COARSE = 2.0**-15, 2.0**-3
"""How coarse the grid of the sums may be: in clip norms where the server adds noise to the sum, for rounding adds to
the sensitivity; in standard deviations of a device's own noise where that is in already."""

SPREAD = 8.0
"""How many times its even share of a step a sum can hold before it saturates."""

DEVIATIONS = 6.0
"""How many standard deviations of its noise a sum has room for: beyond lie 2e-9 of its coordinates."""

CENTRAL_DEVIATIONS = 12.0
"""The same where the server adds it: the noise is made out to 9.4, and its scale grows a little with rounding."""

ROUNDING_COST, NEGLIGIBLE = 0.02, 0.001
"""By what share random rounding may add to the sensitivity, and the share below which a finer grid is idle."""

LEAST_STEPS = 64
"""The fewest steps of a grid with shared noise in one clip norm."""

TOLD = 0.25
"""Where clips adapt, the width in clip norms of the coordinate that tells whether a change was within it."""

MOST_SHARE = 2.0**12
"""The largest standard deviation, in steps, of one device's share that a grid is chosen for."""


@dataclass(frozen=True, eq=False)
class _Place:
    plan: Plan

    @property
    def clip_norm(self) -> float:
        return self.plan.privacy.clip_norm

    @property
    def move(self) -> float:
        """How far one unit moves a sum before it is rounded: the clip norm, and what tells that it was clipped."""
        return self.clip_norm * (math.hypot(1.0, TOLD / 2) if self.plan.adaptive else 1.0)

    def coordinates(self, parameters: int) -> int:
        """How many coordinates devices send for so many parameters."""
        return parameters + self.plan.adaptive

    def bound(self, ring: Ring) -> int:
        """The largest coordinate of one device's vector in steps: the cohort's sum cannot overflow the ring."""
        return ring.bound(self.plan.cohort.size)

    def step(self, ring: Ring) -> float:
        """The value of one step in this ring."""
        bound = self.bound(ring)
        return max(self.plan.range / bound, self.clip_norm / GRID) if bound else math.inf

    def sampled(self, event: Event) -> Event:
        """The event on the plan's Poisson sample of records; a client's is all of its own."""
        p = self.plan.privacy
        return PoissonSampled(p.sampling_rate, event) if p.unit == "record" else event

    def planned(self, noise_multiplier: float) -> Event:
        """What one noised sum costs at a noise multiplier, at most."""
        return self.sampled(Gaussian(noise_multiplier))

    def event(self, view: View, survivors: int) -> Event:
        """What one noised sum over so many devices costs, in one view."""
        del view, survivors
        return self.planned(self.plan.noise_multiplier)


class Local(_Place):
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


class Central(_Place):
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


class Distributed(_Place):
    """Each device adds a Skellam share of the noise to its randomly rounded vector, inside the secure sum.

    The fewest survivors less the assumed colluders bring the noise that the plan claims: `noise_shares` shares.
    """

    @property
    def dimension(self) -> int:
        """How many coordinates the rotated vector has."""
        return self.coordinates(self.plan.parameters)

    def coordinates(self, parameters: int) -> int:
        """As many as the rotated vector has."""
        return padded(super().coordinates(parameters))

    @property
    def noise_shares(self) -> int:
        """How many shares bring the noise that is claimed."""
        return self.plan.least_survivors - self.plan.colluders

    @property
    def range(self) -> float:
        """Of the whole sum: its noise if all take part, and `SPREAD` times an even share of a sum that agrees."""
        plan, n = self.plan, self.plan.cohort.size
        weight = plan.training.batch_size if plan.privacy.unit == "record" else n
        noise = DEVIATIONS * plan.noise_multiplier * math.sqrt((1 + ROUNDING_COST) * n / self.noise_shares)
        return self.clip_norm * (noise + SPREAD * weight / math.sqrt(self.dimension))

    @property
    def coarsest_step(self) -> float:
        """The coarsest step that adds little to the sensitivity."""
        return self.clip_norm * min(_step_of_cost(ROUNDING_COST, self.dimension), 1 / LEAST_STEPS)

    def bound(self, ring: Ring) -> int:
        """Of the whole sum: beyond it coordinates wrap, at a loss of accuracy alone."""
        return ring.bound(1)

    def step(self, ring: Ring) -> float:
        """The value of one step in this ring: no finer than is of use."""
        finest = _step_of_cost(NEGLIGIBLE, self.dimension)
        smallest = self.plan.noise_multiplier / math.sqrt(self.noise_shares) / MOST_SHARE
        useful = min(self.clip_norm * max(finest, smallest), self.coarsest_step)
        return max(self.plan.range / self.bound(ring), useful)

    @property
    def refinement(self) -> int:
        """One: the noise is in the vectors that are summed."""
        return 1

    @property
    def noise_step(self) -> float:
        """The value of a step of the grid that shares are whole numbers on."""
        return self.plan.grid_step

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves the sum, root mean square over the random rounding: see `Skellam`.

        A clipped difference keeps its norm when it is rotated; rounding it at random adds at most a quarter of a
        step squared to the mean square of each coordinate.
        """
        return math.hypot(self.move, math.sqrt(padded(dimension)) * self.plan.grid_step / 2)

    @property
    def share_variance(self) -> float:
        """Variance of one device's share of the noise, in steps squared."""
        std = self.plan.noise_multiplier * self.sensitivity(self.dimension) / self.plan.grid_step
        return std**2 / self.noise_shares

    def planned(self, noise_multiplier: float) -> Event:
        """As for the coarsest grid: a finer one has more steps in its noise, and costs no more."""
        return self.sampled(Skellam(noise_multiplier, (noise_multiplier * self.clip_norm / self.coarsest_step) ** 2))

    def event(self, view: View, survivors: int) -> Event:
        """The noise that has arrived but for the colluders': they may tell it to the server, or leave it out."""
        del view
        shares = survivors - self.plan.colluders
        noise_multiplier = self.plan.noise_multiplier * math.sqrt(shares / self.noise_shares)
        return self.sampled(Skellam(noise_multiplier, shares * self.share_variance))


def _step_of_cost(cost: float, dimension: int) -> float:
    """Return the step, in clip norms, at which random rounding adds that share to the sensitivity."""
    return math.sqrt(8 * cost / dimension)


Place = Local | Distributed | Central
PLACES: dict[str, type[Local] | type[Distributed] | type[Central]] = {
    "local": Local,
    "distributed": Distributed,
    "central": Central,
}
