"""A forecast of whether training can learn under the noise: the noise-to-signal ratio, from a plan alone.

One step releases an average update plus noise. Over T steps, updates that agree add up like T, and independent noise
like sqrt(T). So the ratio over the whole training, `Signal.ratio`, is the ratio of one step divided by sqrt(T). It
does not depend on the number of steps among which a budget is divided, because the noise of a step grows like
sqrt(T) too.

This is a rule of thumb. The norm of the average update without noise, in clip norms, was measured (`UPDATE`). The
limits `WORKS` and `HOPELESS` come from trainings with a known outcome (docs/budget.md lists them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..mechanisms.choose import mechanism_of
from ..mechanisms.factorisation import relative_error
from ..plan.plan import Plan
from ..plan.schema import gives_one_away
from .bounds import bound

UPDATE = {"record": 0.2, "client": 0.8}
"""The usual L2 norm of the average of clipped gradients, or of clients' clipped changes, in clip norms. Measured
values were 0.1 to 0.4, and 0.6 to 0.9."""

WORKS, HOPELESS = 1.0, 15.0
"""Up to a ratio of `WORKS`, training came near to its accuracy without noise; from `HOPELESS` on, it learnt almost
nothing. Between the two ratios, accuracy is lost."""

SEEN = 1000
"""The number of rounds after which the fraction of correlated noise that stays hardly changes."""

Verdict = Literal["works", "hard", "cannot work"]

WORTHLESS = 50.0
"""An epsilon that protects nobody."""


@dataclass(frozen=True)
class Signal:
    """The noise on one averaged update and the norm of the update, in clip norms; training has `steps` such updates.

    `noise` is the expected L2 norm of independent noise over all `parameters` if nobody drops out. `kept` is the
    fraction that stays in the model if noise is correlated and later rounds cancel part of it.
    """

    parameters: int
    noise: float
    update: float
    steps: int
    kept: float = 1.0

    @property
    def step_ratio(self) -> float:
        """The noise-to-signal ratio of one step."""
        return self.noise / self.update

    @property
    def ratio(self) -> float:
        """The noise-to-signal ratio of the whole training."""
        return self.step_ratio * self.kept / math.sqrt(self.steps)

    @property
    def verdict(self) -> Verdict:
        """The forecast: `works`, `hard` or `cannot work`, by the ratio."""
        return "works" if self.ratio <= WORKS else "hard" if self.ratio <= HOPELESS else "cannot work"


@dataclass(frozen=True)
class Remedy:
    """A change of a single key that would help: the key, its value, and the change in words."""

    key: str
    value: float | str
    words: str


def signal(plan: Plan) -> Signal:
    """Return the forecast for a plan.

    Raises:
        PlanError: the plan does not give the model's number of parameters.
    """
    steps = plan.cohort.rounds * plan.sums
    return Signal(plan.parameters, _noise(plan), UPDATE[plan.privacy.unit], steps, _kept(plan))


def _kept(plan: Plan) -> float:
    """Return the root mean square noise in the model, divided by that of independent noise."""
    return relative_error(min(plan.cohort.rounds, SEEN), plan.bands, plan.server.momentum) if plan.correlated else 1.0


def _noise(plan: Plan) -> float:
    """Return the expected norm of the noise on an averaged update, in clip norms, if nobody drops out."""
    mechanism = mechanism_of(plan)
    weight = plan.training.batch_size if plan.privacy.unit == "record" else 1
    members = 1 if mechanism.sums_gradients else plan.cohort.size
    std = mechanism.total_noise_std(plan.parameters) / plan.privacy.clip_norm
    return std * math.sqrt(plan.parameters) / (weight * members)


def remedies(plan: Plan) -> tuple[Remedy, ...]:
    """Return the changes that would help, each on its own; none if the verdict is "works".

    Their figures follow from the scaling of the ratio: with the noise, with 1 / (clients or records), and with
    sqrt(parameters).
    """
    now = signal(plan)
    if now.verdict == "works":
        return ()
    times = now.ratio / WORKS
    level = _record_level() if plan.privacy.unit == "client" else ()
    place = _shared(plan) if plan.privacy.noise == "local" else ()
    return (_more(plan, times), *place, _epsilon(plan, times), *level, _smaller(now, times))


def _more(plan: Plan, times: float) -> Remedy:
    if plan.privacy.unit == "client":
        count = _about(plan.data.clients * times ** (2 if plan.privacy.noise == "local" else 1))
        words = f"about {count:,} clients, with as large a share of them in a round"
        return Remedy("data.clients", count, words + _smaller_delta(plan, count))
    count = _about(plan.training.batch_size * times)
    words = f"about {count:,} records a step, by more records at the same sampling rate"
    return Remedy("training.batch_size", count, words + _smaller_delta(plan, count / plan.privacy.sampling_rate))


def _smaller_delta(plan: Plan, units: float) -> str:
    """Return the words for a smaller delta if delta is 1/n or more for `units` units, else an empty string."""
    too_large = gives_one_away(plan.privacy.delta, units) and not plan.privacy.allow_large_delta
    return f", and a delta below {1 / units:.1g}" if too_large else ""


def _shared(plan: Plan) -> tuple[Remedy, ...]:
    factor = math.sqrt(plan.cohort.size)
    return (Remedy("privacy.noise", "distributed", f"noise shared in a secure sum: up to {factor:.3g} times less"),)


def _epsilon(plan: Plan, times: float) -> Remedy:
    mechanism = mechanism_of(plan)
    view = mechanism.budget_view
    epsilon = float(f"{bound(plan.with_noise_multiplier(mechanism.noise_multiplier / times)).of(view):.2g}")
    useless = ", which protects nobody" if epsilon > WORTHLESS else ""
    return Remedy("privacy.epsilon", epsilon, f"an epsilon of about {epsilon:,g}{useless}")


def _record_level() -> tuple[Remedy, ...]:
    words = "protect single records, not whole clients: far less noise, and a weaker promise"
    return (Remedy("privacy.unit", "record", words),)


def _smaller(now: Signal, times: float) -> Remedy:
    count = max(1, _about(now.parameters / times**2))
    return Remedy("model.parameters", count, f"about {count:,} trained parameters instead of {now.parameters:,}")


def _about(value: float) -> int:
    """Return the value rounded to two digits, as an integer."""
    return int(float(f"{min(value, 1e15):.2g}")) if value >= 1 else math.ceil(value)
