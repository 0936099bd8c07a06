"""The plan: every public fact that the privacy claim rests on, in one frozen record with a digest.

The same fields give the sensitivity, the scale of the noise and the accounting event, so mechanism and
accounting cannot disagree. One TOML file holds it, for a simulation and for a deployment alike.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .accounting import calibrate, epsilon
from .budget import Budget
from .events import Composed, Event, Gaussian, PoissonSampled, Unbounded
from .ring import WIDTHS, Ring
from .sections import Aggregation, Cohort, Data, Model, Privacy, Server, Training

GRID = 1 << 30
"""Steps in one clip norm of the finest grid: noise is added on it, and no sum has a finer one."""

FINE, COARSE = 2.0**-15, 2.0**-3
"""How coarse the grid of the sums may be: in clip norms where noise is added to the sum, for rounding adds to the
sensitivity; in standard deviations of a device's own noise where that is in already."""

SPREAD = 8.0
"""How many times its even share of a step a device's sum can hold before it saturates."""

ROUNDING_MARGIN = 2.0**-10
"""Share of the clip norm left free for float32 rounding in norms and sums: see `Plan.record_clip_norm`."""


class Plan(BaseModel):
    """Every public fact of a training run. Made by `plan_file.read_plan`; frozen; equal plans have equal digests."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))
    private_sections: ClassVar[frozenset[str]] = frozenset()

    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    cohort: Cohort = Cohort()
    privacy: Privacy = Privacy()
    aggregation: Aggregation = Aggregation()
    server: Server = Server()

    @property
    def cell(self) -> tuple[str, str]:
        """The cell of the table unit times place of noise, as `("record", "central")`."""
        return self.privacy.unit, self.privacy.noise

    @property
    def secure(self) -> bool:
        """Whether updates leave a device under masks alone."""
        return self.aggregation.protocol == "secagg"

    @property
    def malicious(self) -> bool:
        """Whether the protocol holds against a server that lies."""
        return self.aggregation.mode == "malicious-server"

    @property
    def protected(self) -> bool:
        """Whether the plan makes any claim. Every plan of a deployment does."""
        return True

    @property
    def participations(self) -> int:
        """The most rounds that any one client takes part in: the cohort is dealt round robin."""
        return -(-self.cohort.rounds * self.cohort.size // self.data.clients)

    @cached_property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise in units of the sensitivity: given, or calibrated to the budget."""
        given = self.privacy.noise_multiplier
        if given is not None:
            return given
        p = self.privacy
        steps = self.participations * self.training.local_steps
        return _calibrated(p.sampling_rate, steps, p.epsilon, p.delta)

    @property
    def record_clip_norm(self) -> float:
        """The L2 norm every record's gradient is clipped to.

        It stays a 1/1024 below the `clip_norm` that the noise is scaled to, so that float32 rounding in norms
        and partial sums (1e-7 relative; tests measure it) cannot carry a record's share past `clip_norm`.
        """
        return self.privacy.clip_norm * (1 - ROUNDING_MARGIN)

    @property
    def range(self) -> float:
        """The largest coordinate of one device's vector: a larger one saturates, at a loss of accuracy alone.

        As the plan says, or generous: `SPREAD` times a device's even share of the batch if all gradients agreed;
        where devices noise their own steps, four times what a batch could move them, and `SPREAD` deviations.
        """
        t, clip_norm = self.training, self.privacy.clip_norm
        if self.aggregation.range is not None:
            return self.aggregation.range * clip_norm
        if self.privacy.noise == "central":
            return clip_norm * max(1.0, min(1.0, SPREAD / self.cohort.size) * t.batch_size)
        deviations = SPREAD * self.noise_multiplier * math.sqrt(t.local_steps) / t.batch_size
        return clip_norm * t.learning_rate * (4.0 * t.local_steps + deviations)

    @property
    def coarsest_step(self) -> float:
        """The largest step of the sums' grid with which rounding still costs next to nothing."""
        t, clip_norm = self.training, self.privacy.clip_norm
        if self.privacy.noise == "central":
            return FINE * clip_norm
        deviation = self.noise_multiplier * clip_norm * t.learning_rate / t.batch_size
        return max(COARSE * deviation, clip_norm / GRID)

    @property
    def ring(self) -> Ring:
        """The ring of the sums: of the plan's width, or of the least one that is fine enough."""
        if self.aggregation.bits is not None:
            return Ring(self.aggregation.bits)
        return next((ring for ring in map(Ring, WIDTHS) if self._step(ring) <= self.coarsest_step), Ring(WIDTHS[-1]))

    @property
    def bound(self) -> int:
        """The largest coordinate of one device's vector in steps: the whole cohort's sum cannot overflow the ring."""
        return self.ring.bound(self.cohort.size)

    @property
    def grid_step(self) -> float:
        """The value of one integer step of what devices send and the server sums."""
        return self._step(self.ring)

    def _step(self, ring: Ring) -> float:
        bound = ring.bound(self.cohort.size)
        return max(self.range / bound, self.privacy.clip_norm / GRID) if bound else math.inf

    @property
    def refinement(self) -> int:
        """By how much the grid that noise is added on is finer than the sums' own."""
        if self.privacy.noise == "local":
            return 1
        room = (1 << 62) // (self.bound * self.cohort.size)
        return max(1, min(room, int(GRID * self.grid_step / self.privacy.clip_norm)))

    @property
    def noise_step(self) -> float:
        """The value of one integer step of the grid that noise is added on."""
        return self.privacy.clip_norm / GRID if self.privacy.noise == "local" else self.grid_step / self.refinement

    def sensitivity(self, dimension: int) -> float:
        """How far one record can move, in L2, a rounded sum of `dimension` coordinates that noise is added to.

        Adding a record moves the sum by at most the clip norm; rounding two vectors to a grid moves each of
        their coordinates by at most half a step, so their difference by at most sqrt(dimension) steps more.
        """
        step = self.noise_step if self.privacy.noise == "local" else self.grid_step
        return self.privacy.clip_norm + math.sqrt(dimension) * step

    def noise_std(self, dimension: int) -> float:
        """Standard deviation of the noise on such a sum; `noise_step` divides it into steps."""
        return self.noise_multiplier * self.sensitivity(dimension)

    @property
    def round_event(self) -> Event:
        """What one round costs a record of a client that takes part, whoever sees only what is released.

        Poisson-sampled Gaussian steps (Abadi et al. 2016), one for each noised sum that the round makes.
        """
        p = self.privacy
        step = PoissonSampled(p.sampling_rate, Gaussian(self.noise_multiplier))
        return Composed(step, self.training.local_steps)

    @property
    def server_event(self) -> Event:
        """What one round costs against the server: no bound where the server adds the noise itself."""
        return Unbounded() if self.privacy.noise == "central" else self.round_event

    @property
    def budget(self) -> Budget:
        """The budget a ledger of this plan enforces."""
        p = self.privacy
        view = "released" if p.noise == "central" else "server"
        return Budget(p.epsilon, p.delta, p.unit, view)

    def cost(self) -> float:
        """The epsilon of the whole plan in the view that its budget binds."""
        return epsilon(Composed(self.round_event, self.participations), self.privacy.delta)

    def resolved(self) -> Plan:
        """This plan with the noise multiplier written out: what is run, sent to devices and stored."""
        if self.privacy.noise_multiplier is not None:
            return self
        privacy = self.privacy.model_copy(update={"noise_multiplier": self.noise_multiplier})
        return self.model_copy(update={"privacy": privacy})

    def public(self) -> dict[str, Any]:
        """The plan as plain values, absent ones left out: what is digested and what devices get."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(self.private_sections))

    @property
    def digest(self) -> str:
        """SHA-256 of the public plan in hexadecimal."""
        text = json.dumps(self.public(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def offered(self) -> str:
        """The public plan as TOML text: what a device is offered."""
        return _toml(self.public())

    def to_toml(self) -> str:
        """The whole plan as the TOML text that reads back equal."""
        return _toml(self.model_dump(mode="json", exclude_none=True))


def _toml(sections: dict[str, Any]) -> str:
    tables = [
        f"[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    ]
    return "\n".join(tables)


def _toml_value(value: Any) -> str:
    """Return a value as TOML, which writes strings, numbers and lists as JSON does, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@lru_cache(maxsize=256)
def _calibrated(sampling_rate: float, steps: int, target: float, delta: float) -> float:
    def event(noise_multiplier: float) -> Event:
        return Composed(PoissonSampled(sampling_rate, Gaussian(noise_multiplier)), steps)

    return calibrate(event, target, delta)
