"""Training that protects nobody, for comparison: the mechanism of `unit = "none"`. No deployment can use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..client.local_sgd import gradient_sum
from ..client.local_steps import LocalSteps
from ..client.train import VECTORS, Task, clipped_change, sampled_sum
from ..privacy import (
    Budget,
    Clipped,
    Contribution,
    Event,
    Keystream,
    Mechanism,
    Plan,
    Release,
    Sum,
    Unbounded,
    Update,
    View,
)
from ..privacy.encoding.quantization import quantize
from ..privacy.mechanisms.base import FINEST, Draw, Grid, Words, fit_ring
from ..privacy.sampling import poisson_sample

RANGE, STEP = 2.0**16, 2.0**-25
"""The range and the coarsest grid step of the sums, in clip norms: very large and very small, without a clip."""


class Unprotected(Mechanism):
    """Each device sends its vector without noise, so the privacy loss is unbounded."""

    @property
    def noise_multiplier(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Zero."""
        return 0.0

    @property
    def _local(self) -> bool:
        return self.plan.privacy.noise == "local"

    @property
    def budget_view(self) -> View:
        """The same as for the plan's place of noise."""
        return "released" if self.plan.privacy.noise == "central" else "server"

    @property
    def budget(self) -> Budget:
        """A budget without a limit."""
        return Budget(None, self.plan.privacy.delta, self.plan.privacy.unit, self.budget_view)

    @property
    def noised_alone(self) -> bool:
        """The same as for the plan's place of noise, so that the run differs only in clip and noise."""
        return self._local

    @property
    def sums_gradients(self) -> bool:
        """The same as for the plan's place of noise."""
        return not self._local

    @property
    def in_words(self) -> Words:
        """What a report says of a study that protects nobody."""
        clip = _clip(self.plan)
        clipping = "no clipping" if clip is None else f"clipping by {clip}"
        return Words(f"none: {clipping}, no noise, no accounting")

    @cached_property
    def grid(self) -> Grid:
        """A grid of a very large range, because gradients are not clipped, in very small steps.

        No noise covers the rounding. The plan's `aggregation.range` is ignored.
        """
        clip, a = self.plan.privacy.clip_norm, self.plan.aggregation
        coarsest, finest = STEP * clip, clip / FINEST
        ring, bound, step = fit_ring(RANGE * clip, coarsest, finest, self.plan.cohort.size, a.bits)
        return Grid(RANGE * clip, coarsest, ring, bound, step, finest)

    def sensitivity(self, dimension: int) -> float:
        """Infinite: one unit moves a sum by any amount."""
        del dimension
        return math.inf

    def noise_std(self, dimension: int) -> float:
        """Zero."""
        del dimension
        return 0.0

    @property
    def can_make_noise(self) -> bool:
        """True: there is no noise to draw."""
        return True

    def event(self, view: View, survivors: int | None = None) -> Event:
        """Unbounded."""
        del view, survivors
        return Unbounded()

    def cost(self) -> float:
        """Infinite."""
        return math.inf

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the vector on the sums' grid."""
        del round, draw, layers
        return Contribution(quantize(vector.vector, self.grid.step, self.grid.bound))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the release of the sum, without noise."""
        del round, noise, past
        return self.averaged(self.decoded(total)), None


Summing = Callable[[Task, NDArray[np.float32], int], NDArray[np.float64]]
"""Returns a device's gradient sum at the given parameters, for a step."""


def plain_vector(task: Task) -> Update:
    """Return the gradient sum over a Poisson sample, or the change after local steps, without clip and noise."""
    return _steps(task, _plain_sum)


def clipped_vector(task: Task) -> Update:
    """Return the same as `plain_vector`, but each record's gradient is clipped to the clip norm."""
    return _steps(task, _clipped_sum)


def _steps(task: Task, summed: Summing) -> Update:
    if task.mechanism.sums_gradients:
        return Update(summed(task, task.parameters, 0))
    training = task.plan.training
    steps = LocalSteps(training, task.parameters)
    for step in range(training.local_steps):
        steps.step(summed(task, steps.parameters.astype(np.float32), step) / training.batch_size)
    return Update(steps.parameters - task.parameters)


UNPROTECTED = {None: plain_vector, "record": clipped_vector, "client": clipped_change}
"""The function that returns a device's vector in a study that protects nobody, by what it clips."""


def guarantee(plan: Plan) -> str:
    """Return what a study that protects nobody guarantees, in words: nothing, and why."""
    clip = _clip(plan)
    clipped = {
        None: "Gradients are neither clipped nor noised",
        "record": "Each record's gradient is clipped, but nothing is noised",
        "client": "Each client's update is clipped, but nothing is noised",
    }
    return f"Nothing. {clipped[clip]}: the model may give away any record."


def _clip(plan: Plan) -> str | None:
    return getattr(plan.privacy, "clip", None)


def open_contribution(task: Task) -> Contribution:
    """Return what a simulated device adds to the round's sum, also in a study that protects nobody."""
    privacy = task.plan.privacy
    vector = (VECTORS.get(privacy.unit) or UNPROTECTED[_clip(task.plan)])(task)
    return task.mechanism.contribute(vector, task.round, task.draw, task.layers)


def _plain_sum(task: Task, parameters: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    chosen = poisson_sample(task.draw("sample", step), task.plan.privacy.sampling_rate, len(task.records))
    return gradient_sum(task.plan, parameters, task.records.select(chosen))


def _clipped_sum(task: Task, parameters: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    return sampled_sum(task, parameters, step).vector.astype(np.float64)
