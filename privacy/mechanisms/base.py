"""The mechanism of a plan: it derives everything from the plan's facts, once, for devices and server alike.

A mechanism defines the device's contribution and the server's release, and beside them the sensitivity, the grid, the
noise scale and the event that accounting charges. No other file computes these, so mechanism and accounting agree.

The grid. A device's vector and the sum are vectors of integers, in steps of a grid. How large is a step?

    range      the largest coordinate that has to fit: the plan's `aggregation.range`, else what costs no accuracy
    coarsest   the largest step for which rounding costs almost nothing
    ring       of the plan's width, else the narrowest ring in which the range has steps of at most `coarsest`
    bound      the range in steps: the most for which the ring has room
    step       range / bound, or the finest step that is of use if that is larger

Noise is added in steps of `noise_step`: the same grid, or a finer one of the party that adds the noise.

The noise. One unit moves the rounded sum by at most `sensitivity`, in L2. The noise has the standard deviation
noise multiplier x sensitivity, and its event has the same noise multiplier.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..accounting.accountant import GRIDS, calibrate, epsilon
from ..accounting.events import Composed, Event, Gaussian, PoissonSampled, Unbounded
from ..budget import Budget, View
from ..encoding.quantization import dequantize
from ..encoding.ring import LARGEST, LARGEST_SUM, Ring
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.keystream import Keystream
from ..plan.plan import Plan
from .change_clip import INDICATOR, share_within
from .correlation import Correlation

FINEST = 1 << 30
"""The number of steps in one clip norm on the finest grid. Noise may be added on it; no sum has a finer grid."""

SPREAD = 8.0
"""The room of a sum, as a multiple of a device's average part of it. Larger sums saturate or wrap."""


@dataclass(frozen=True)
class Words:
    """What a report says of a mechanism: where noise is added, its unit, its accounting, and rows of its own.

    `rows` are pairs of a name and a value.
    """

    place: str
    unit: str = "standard deviation in units of the clip norm"
    accounting: str = (
        f"privacy loss distributions (PLD), discretized at {GRIDS[0]:g} or finer and rounded so that epsilon can"
        " only be overstated; the Rényi bound (RDP) serves as a check that no epsilon may exceed"
    )
    rows: tuple[tuple[str, str], ...] = ()


def count_of(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1.

    >>> count_of(1, "layer"), count_of(2000, "layer")
    ('1 layer', '2,000 layers')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


Draw = Callable[..., Keystream]
"""Returns the secret keystream of a purpose, for example `draw("noise", 3)`."""


@dataclass(frozen=True)
class Grid:
    """The grid of a round's sums, as the head of this file derives it. Public.

    `range`, `coarsest`, `step` and `noise_step` are real numbers, `bound` is in steps. A coordinate beyond the range
    saturates or wraps, which costs accuracy but no privacy. `refinement` is the number of noise steps in a step if
    the server adds the noise on a finer grid.
    """

    range: float
    coarsest: float
    ring: Ring
    bound: int
    step: float
    noise_step: float
    refinement: int = 1


def fit_ring(
    span: float, coarsest: float, finest: float, vectors: int, bits: int | None, widest: float | None = None
) -> tuple[Ring, int, float]:
    """Return the ring of a sum of `vectors` vectors with coordinates up to `span`, their bound, and the step.

    The ring has the width `bits`; if that is None, the least width with a step of at most `coarsest`, else 64 bits. A
    step is at least `finest`, and infinite in a ring without room. In a ring of 64 bits, `widest`, if it is given,
    replaces `span`.
    """
    ring, bound, step = 0, 0, math.inf
    for ring in (bits,) if bits else LARGEST_SUM:
        bound = min(LARGEST_SUM[ring] // vectors, LARGEST)
        largest = span if widest is None or ring < 64 else widest
        step = max(largest / bound, finest) if bound else math.inf
        if step <= coarsest:
            break
    return Ring(ring), bound, step


@dataclass(frozen=True, eq=False)
class Mechanism(ABC):
    """The base class of mechanisms, with the defaults that they share."""

    plan: Plan

    @property
    @abstractmethod
    def in_words(self) -> Words:
        """What a report says of this mechanism."""

    @property
    def budget_view(self) -> View:
        """The view that the plan's budget limits: `server` (all that the server learns) or `released`."""
        return "server"

    @property
    def noised_alone(self) -> bool:
        """Whether each device's vector alone holds the claimed noise, so that the server may see it."""
        return False

    @property
    def clip_norm(self) -> float:
        """The plan's clip norm."""
        return self.plan.privacy.clip_norm

    @property
    def sums_gradients(self) -> bool:
        """Whether a round sums clipped gradients; if false, it sums changes of the model."""
        return self.plan.privacy.unit == "record"

    @cached_property
    def noise_multiplier(self) -> float:
        """The standard deviation of the noise divided by the sensitivity: given, or calibrated to the budget."""
        p = self.plan.privacy
        if p.noise_multiplier is not None:
            return p.noise_multiplier
        sums = self.plan.participations * self.plan.sums
        return calibrate(lambda noise: Composed(self.planned(noise), sums), p.epsilon, p.delta)

    # The grid of the sums

    def coordinates(self, parameters: int) -> int:
        """The number of coordinates of a device's vector and of the sum, for a network of `parameters` parameters."""
        return parameters + self.plan.adaptive

    @cached_property
    @abstractmethod
    def grid(self) -> Grid:
        """The grid of the sums."""

    # Sensitivity, noise and cost

    @cached_property
    def exact_sensitivity(self) -> float:
        """How far one unit moves a sum in L2 before rounding: the clip norm, and the clip's indicator if adaptive."""
        p = self.plan.privacy
        return p.clip_norm * (1.0 if p.clip_quantile is None else math.hypot(1.0, INDICATOR / 2))

    @abstractmethod
    def sensitivity(self, dimension: int) -> float:
        """How far one unit can move, in L2, a rounded sum of `dimension` coordinates before noise is added."""

    def noise_std(self, dimension: int) -> float:
        """The standard deviation of the noise on a sum of `dimension` coordinates, as a real number, not in steps.

        For distributed noise it counts only the least number of devices that a sum may have.
        """
        return self.noise_multiplier * self.sensitivity(dimension)

    @property
    @abstractmethod
    def can_make_noise(self) -> bool:
        """Whether the samplers can draw the plan's noise on its grid."""

    def total_noise_std(self, dimension: int) -> float:
        """The standard deviation of the noise in a round's sum if nobody drops out."""
        return self.noise_std(dimension)

    @property
    def layers(self) -> tuple[float, ...]:
        """The variances, in steps squared, of the layers of noise that the server may remove from a vector."""
        return ()

    def kept_layers(self, survivors: int) -> int:
        """How many of these layers, from the first, stay in a sum over `survivors` devices."""
        del survivors
        return 0

    def sampled(self, event: Event) -> Event:
        """The event under the plan's Poisson sampling of records. Clients are not sampled."""
        p = self.plan.privacy
        return PoissonSampled(p.sampling_rate, event) if p.unit == "record" else event

    def planned(self, noise_multiplier: float) -> Event:
        """An upper bound on the cost of one noised sum at a noise multiplier, as an event."""
        return self.sampled(Gaussian(noise_multiplier))

    def sum_event(self, view: View, survivors: int) -> Event:
        """The cost, in one view, of one noised sum over `survivors` devices, as an event."""
        del view, survivors
        return self.planned(self.noise_multiplier)

    def event(self, view: View, survivors: int | None = None) -> Event:
        """The cost of one round to a unit of a participant, as an event. By default, with the fewest survivors."""
        event = self.sum_event(view, self.plan.least_survivors if survivors is None else survivors)
        return event if event == Unbounded() else Composed(event, self.plan.sums)

    @property
    def round_event(self) -> Event:
        """The largest cost of one round in the view of the releases alone."""
        return self.event("released")

    @property
    def server_event(self) -> Event:
        """The largest cost of one round in the server's view: unbounded if the server itself adds the noise."""
        return self.event("server")

    @property
    def budget(self) -> Budget:
        """The budget that a ledger of this plan enforces."""
        p = self.plan.privacy
        return Budget(p.epsilon, p.delta, p.unit, self.budget_view)

    def cost(self) -> float:
        """The epsilon of the whole plan, in the view that its budget limits."""
        event = Composed(self.event(self.budget_view), self.plan.participations)
        return epsilon(event, self.plan.privacy.delta)

    # The device's half, and the server's

    @abstractmethod
    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return what a device adds to the round's sum, from its gradient sum or its change of the model.

        `layers` are the secret seeds of the layers of noise: one seed for each variance in `self.layers`.
        """

    @abstractmethod
    def release(
        self, total: Sum, round: int, noise: Keystream, past: Correlation | None = None
    ) -> tuple[Release, Correlation | None]:
        """Return the release of a round's sum and, if noise is correlated, the state for the next round's noise.

        `noise` is secret randomness, used once. The sum is divided by the planned batch or cohort, never by the
        number of devices that answered (McMahan et al. 2018).
        """

    def fresh_correlation(self, parameters: int) -> Correlation | None:
        """Return the state for the first round's noise if noise is correlated, else None."""
        del parameters
        return None

    def averaged(self, total: NDArray[np.float64]) -> Release:
        """Return the change of the model that a noised sum encodes.

        A gradient sum gives the step of pooled DP-SGD (Abadi et al. 2016, algorithm 1); changes are averaged.
        """
        plan = self.plan
        if self.sums_gradients:
            return Release(-plan.training.learning_rate * total / plan.training.batch_size)
        mean = total / plan.cohort.size
        return Release(mean[:-1], share_within(float(mean[-1]), plan)) if plan.adaptive else Release(mean)

    def crowded(self, total: Sum) -> int:
        """Return how many coordinates of a noised sum lie near the ends of its range; 0 if none can have wrapped.

        The sum is charged before this is asked, so the answer costs nothing more.
        """
        del total
        return 0

    def decoded(self, total: Sum) -> NDArray[np.float64]:
        """Return a sum as real numbers, float64 [coordinates]."""
        return dequantize(total.vector, self.grid.step)
