"""What the places of noise have in common: a plan, the grid of its sums, and what one noised sum costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..accounting.events import Event, Gaussian, PoissonSampled
from ..budget import View
from ..encoding.ring import Ring

if TYPE_CHECKING:
    from ..plan.plan import Plan

GRID = 1 << 30
"""Steps in one clip norm of the finest grid: noise is added on it, and no sum has a finer one."""

SPREAD = 8.0
"""How many times its even share of a step a sum can hold before it saturates."""

TOLD = 0.25
"""Where clips adapt, the width in clip norms of the coordinate that tells whether a change was within it."""


@dataclass(frozen=True, eq=False)
class Base:
    """What each place answers for its plan, unless it says something else."""

    plan: Plan

    @property
    def clip_norm(self) -> float:
        """The plan's."""
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

    @property
    def layers(self) -> tuple[float, ...]:
        """Variances, in steps squared, of the layers of noise that may be taken off a device's vector again."""
        return ()

    def kept(self, survivors: int) -> int:
        """How many of these layers, the first ones, stay in a sum over so many devices."""
        del survivors
        return 0

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
