"""The mechanism of a plan: what follows from the plan's facts, computed once, for devices and server alike.

A mechanism holds both halves of a place of noise, what a device contributes and what the server releases, beside the
sensitivity, the grid, the noise scale and the event that it costs. Nowhere else is one of these made, so mechanism
and accounting cannot disagree.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..accounting.accountant import calibrate, epsilon
from ..accounting.events import Composed, Event, Gaussian, PoissonSampled, Unbounded
from ..budget import Budget, View
from ..encoding.quantization import dequantize
from ..encoding.ring import WIDTHS, Ring
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.keystream import Keystream
from ..plan.plan import Plan
from .change_clip import INDICATOR, share_within
from .correlation import Correlation

FINEST = 1 << 30
"""Steps in one clip norm of the finest grid: noise is added on it, and no sum has a finer one."""

SPREAD = 8.0
"""How many times its even share of a step a sum can hold before it saturates."""

Draw = Callable[..., Keystream]
"""Gives the secret keystream of a purpose, as `draw("noise", 3)`."""


@dataclass(frozen=True, eq=False)
class Mechanism(ABC):
    """What every mechanism answers, unless it says something else."""

    plan: Plan

    @property
    def budget_view(self) -> View:
        """The view that the plan's budget binds: what the server learns, or only what is released."""
        return "server"

    @property
    def noised_alone(self) -> bool:
        """Whether each device's vector has all the noise in it that is claimed: the server may then see it alone."""
        return False

    @property
    def clip_norm(self) -> float:
        """The plan's."""
        return self.plan.privacy.clip_norm

    @property
    def sums_gradients(self) -> bool:
        """Whether a round's sum is one of clipped gradients; else it is one of changes of the model."""
        return self.plan.privacy.unit == "record"

    @cached_property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise in units of the sensitivity: given, or calibrated to the budget."""
        p = self.plan.privacy
        if p.noise_multiplier is not None:
            return p.noise_multiplier
        sums = self.plan.participations * self.plan.sums
        return calibrate(lambda noise: Composed(self.planned(noise), sums), p.epsilon, p.delta)

    # The grid of the sums

    def coordinates(self, parameters: int) -> int:
        """How many coordinates a device sends, and the server sums, for a network of so many parameters."""
        return parameters + self.plan.adaptive

    @cached_property
    def range(self) -> float:
        """The largest coordinate of one device's vector, or of the sum where devices share its noise.

        A larger one saturates, or wraps, at a loss of accuracy alone. As the plan says, or generous.
        """
        given = self.plan.aggregation.range
        return self.generous_range if given is None else given * self.clip_norm

    @property
    @abstractmethod
    def generous_range(self) -> float:
        """The range that loses next to no accuracy."""

    @property
    @abstractmethod
    def coarsest_step(self) -> float:
        """The largest step of the sums' grid with which rounding still costs next to nothing."""

    @cached_property
    def ring(self) -> Ring:
        """The ring of the sums: of the plan's width, or of the least one that is fine enough."""
        if self.plan.aggregation.bits is not None:
            return Ring(self.plan.aggregation.bits)
        coarsest = self.coarsest_step
        for ring in map(Ring, WIDTHS):
            if self.step_in(ring) <= coarsest:
                return ring
        return Ring(WIDTHS[-1])

    @property
    def vectors_in_sum(self) -> int:
        """How many vectors of coordinates up to `bound` the ring has room for."""
        return self.plan.cohort.size

    @property
    def span(self) -> float:
        """The largest coordinate that the ring has room for, of each of these vectors."""
        return self.range

    def bound_in(self, ring: Ring) -> int:
        """The largest coordinate of one device's vector in steps: the cohort's sum cannot overflow the ring."""
        return ring.bound(self.vectors_in_sum)

    def step_in(self, ring: Ring) -> float:
        """The value of one step in this ring."""
        bound = self.bound_in(ring)
        return max(self.range / bound, self.plan.privacy.clip_norm / FINEST) if bound else math.inf

    @property
    def bound(self) -> int:
        """The largest coordinate of one device's vector, or of the sum as `range` says, in steps."""
        return self.bound_in(self.ring)

    @cached_property
    def grid_step(self) -> float:
        """The value of one integer step of what devices send and the server sums."""
        return self.step_in(self.ring)

    @property
    def refinement(self) -> int:
        """By how much the grid that noise is added on is finer than the sums' own; one where devices add it."""
        return 1

    @property
    @abstractmethod
    def noise_step(self) -> float:
        """The value of one integer step of the grid that noise is added on."""

    # Sensitivity, noise and cost

    @cached_property
    def exact_sensitivity(self) -> float:
        """How far one unit moves a sum before it is rounded, in L2: the clip norm, and the indicator of its clip."""
        return self.clip_norm * (math.hypot(1.0, INDICATOR / 2) if self.plan.adaptive else 1.0)

    @abstractmethod
    def sensitivity(self, dimension: int) -> float:
        """How far one unit can move, in L2, a rounded sum of `dimension` parameters that noise is added to."""

    def noise_std(self, dimension: int) -> float:
        """Standard deviation of the noise on such a sum; `noise_step` divides it into steps.

        Where devices share the noise it is that of the fewest shares that are allowed.
        """
        return self.noise_multiplier * self.sensitivity(dimension)

    @property
    @abstractmethod
    def can_make_noise(self) -> bool:
        """Whether the samplers can make the plan's noise on its grid."""

    def total_noise_std(self, dimension: int) -> float:
        """Standard deviation of the noise in a round's sum if nobody drops out."""
        return self.noise_std(dimension)

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

    def sum_event(self, view: View, survivors: int) -> Event:
        """What one noised sum over so many devices costs, in one view."""
        del view, survivors
        return self.planned(self.noise_multiplier)

    def event(self, view: View, survivors: int | None = None) -> Event:
        """What a round over so many survivors, or the fewest allowed, costs a unit of a client that takes part."""
        event = self.sum_event(view, self.plan.least_survivors if survivors is None else survivors)
        return event if event == Unbounded() else Composed(event, self.plan.sums)

    @property
    def round_event(self) -> Event:
        """What one round costs at most, to whoever sees only what is released."""
        return self.event("released")

    @property
    def server_event(self) -> Event:
        """What one round costs at most against the server: no bound where the server adds the noise itself."""
        return self.event("server")

    @property
    def budget(self) -> Budget:
        """The budget that a ledger of this plan enforces."""
        p = self.plan.privacy
        return Budget(p.epsilon, p.delta, p.unit, self.budget_view)

    def cost(self) -> float:
        """The epsilon of the whole plan in the view that its budget binds."""
        event = Composed(self.event(self.budget_view), self.plan.participations)
        return epsilon(event, self.plan.privacy.delta)

    # The device's half, and the server's

    @abstractmethod
    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return what a device adds to the round's sum, made of its gradient sum or its change of the model.

        `layers` are the seeds, secret, of the layers of noise that the device may give up: one for each of `layers`.
        """

    @abstractmethod
    def release(
        self, total: Sum, round: int, noise: Keystream, past: Correlation | None = None
    ) -> tuple[Release, Correlation | None]:
        """Return what a round's sum releases and, where noise is correlated, what the next round's is made of.

        `noise` is secret randomness, used once. Sums are divided by the planned batch or cohort, never by how many
        answered (McMahan et al. 2018).
        """

    def fresh_correlation(self, parameters: int) -> Correlation | None:
        """What the noise of a first round is made of, where the noise of rounds is correlated; else None."""
        del parameters
        return None

    def averaged(self, total: NDArray[np.float64]) -> Release:
        """Return the model's change that a noised sum stands for.

        A gradient sum gives the step of pooled DP-SGD (Abadi et al. 2016, algorithm 1); changes are averaged.
        """
        plan = self.plan
        if self.sums_gradients:
            return Release(-plan.training.learning_rate * total / plan.training.batch_size)
        mean = total / plan.cohort.size
        return Release(mean[:-1], share_within(float(mean[-1]), plan)) if plan.adaptive else Release(mean)

    def decoded(self, total: Sum) -> NDArray[np.float64]:
        """Return the real numbers, float64 [coordinates], that a sum stands for."""
        return dequantize(total.vector, self.grid_step)
