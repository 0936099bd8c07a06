"""The plan: every public fact that the privacy claim rests on, in one frozen record with a digest.

The same fields give the sensitivity, the scale of the noise and the accounting event, so mechanism and
accounting cannot disagree. One TOML file holds it, for a simulation and for a deployment alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..accounting.accountant import calibrate, epsilon
from ..accounting.events import Composed, Event, Unbounded
from ..budget import Budget, View
from ..encoding.ring import WIDTHS, Ring
from ..errors import PlanError
from ..mechanisms.banded import coefficients, whole_weights
from ..mechanisms.places import PLACES, Place
from ..secagg.derive import digest
from ..secagg.graph import COMPLETE, least_in_sum, most_colluders, most_dropouts
from .schema import Aggregation, Cohort, Data, Model, Named, Privacy, Server, Training, gives_one_away, least_units

ROUNDING_MARGIN = 2.0**-10
"""Share of the clip norm left free for float32 rounding in norms and sums: see `Plan.safe_clip_norm`."""


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
    study: Named = Named()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other tables; nothing that was computed from the old ones is kept."""
        copy = super().model_copy(update=update, deep=deep)
        values = cast(dict[str, Any], copy.__dict__)
        for name in values.keys() - type(self).model_fields.keys():
            del values[name]
        return copy

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

    @property
    def large_delta(self) -> bool:
        """Whether delta is one part of all units or more, which the plan then allows in a key of its own."""
        return gives_one_away(self.privacy.delta, least_units(self.data, self.training, self.privacy))

    @property
    def adaptive(self) -> bool:
        """Whether the clip norm follows the norms of the clients' changes."""
        return self.privacy.clip_quantile is not None

    @property
    def bands(self) -> int:
        """How far apart the rounds of a client lie at least: over so many a round's noise is spread."""
        return self.privacy.bands or 1

    @property
    def correlated(self) -> bool:
        """Whether each round takes back part of the noise of those before it."""
        return self.bands > 1

    @cached_property
    def place(self) -> Place:
        """The mechanism of the plan's place of noise."""
        return PLACES[self.privacy.noise](self)

    @property
    def parameters(self) -> int:
        """How many parameters the model has.

        Raises:
            PlanError: the plan does not say.
        """
        if self.model.parameters is None:
            raise PlanError("the plan does not say how many parameters its model has", "set model.parameters")
        return self.model.parameters

    def coordinates(self, parameters: int) -> int:
        """How many coordinates devices send and the server sums for so many parameters."""
        return self.place.coordinates(parameters)

    @property
    def colluders(self) -> int:
        """c: how many devices, wherever in the roster they are, may work with the server."""
        return most_colluders(self.cohort.size, self.aggregation.colluders)

    @property
    def least_survivors(self) -> int:
        """S: the fewest devices whose sum is opened, and so the fewest that are seated, however many there are.

        Under masks at least T, more than half of the planned cohort and the colluders together. Where devices share
        the noise, and in a sparse graph, all but those that may drop out: noise and graph are sized for them.
        """
        cohort, a = self.cohort, self.aggregation
        if a.protocol != "secagg":
            return cohort.minimum
        present = cohort.size - most_dropouts(cohort.size, a.dropouts)
        sized = self.privacy.noise == "distributed" or cohort.size > COMPLETE
        return max(least_in_sum(cohort.size, self.colluders), cohort.minimum, present if sized else 0)

    @property
    def sums(self) -> int:
        """How many noised sums a participant makes in a round: one a step, or the one change of its model."""
        return self.training.local_steps if self.privacy.unit == "record" else 1

    @cached_property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise in units of the sensitivity: given, or calibrated to the budget."""
        given = self.privacy.noise_multiplier
        if given is not None:
            return given
        p = self.privacy
        sums = self.participations * self.sums
        return calibrate(lambda noise: Composed(self.place.planned(noise), sums), p.epsilon, p.delta)

    @property
    def safe_clip_norm(self) -> float:
        """The L2 norm that every record's gradient, or every client's change, is clipped to.

        It stays a 1/1024 below the `clip_norm` that the noise is scaled to, so that float32 rounding in norms
        and partial sums (1e-7 relative; tests measure it) cannot carry a record's share past `clip_norm`.
        """
        return self.privacy.clip_norm * (1 - ROUNDING_MARGIN)

    @property
    def range(self) -> float:
        """The largest coordinate of one device's vector, or of the sum where devices share its noise.

        A larger one saturates, or wraps, at a loss of accuracy alone. As the plan says, or generous.
        """
        given = self.aggregation.range
        return self.place.range if given is None else given * self.privacy.clip_norm

    @property
    def coarsest_step(self) -> float:
        """The largest step of the sums' grid with which rounding still costs next to nothing."""
        return self.place.coarsest_step

    @property
    def ring(self) -> Ring:
        """The ring of the sums: of the plan's width, or of the least one that is fine enough."""
        if self.aggregation.bits is not None:
            return Ring(self.aggregation.bits)
        fine = (ring for ring in map(Ring, WIDTHS) if self.place.step(ring) <= self.coarsest_step)
        return next(fine, Ring(WIDTHS[-1]))

    @property
    def bound(self) -> int:
        """The largest coordinate of one device's vector, or of the sum as `range` says, in steps."""
        return self.place.bound(self.ring)

    @cached_property
    def grid_step(self) -> float:
        """The value of one integer step of what devices send and the server sums."""
        return self.place.step(self.ring)

    @property
    def refinement(self) -> int:
        """By how much the grid that noise is added on is finer than the sums' own."""
        return self.place.refinement

    @property
    def noise_step(self) -> float:
        """The value of one integer step of the grid that noise is added on."""
        return self.place.noise_step

    def sensitivity(self, dimension: int) -> float:
        """How far one unit can move, in L2, a rounded sum of `dimension` parameters that noise is added to.

        Adding a unit moves the sum by at most the clip norm; rounding two vectors to a grid moves each of their
        coordinates by at most half a step, so their difference by at most sqrt(dimension) steps more. (For random
        rounding under shared noise it is the root mean square: `mechanisms.Distributed.sensitivity`.)
        """
        return self.place.sensitivity(dimension)

    def noise_std(self, dimension: int) -> float:
        """Standard deviation of the noise on such a sum; `noise_step` divides it into steps.

        Where devices share the noise it is that of the fewest shares that are allowed.
        """
        return self.noise_multiplier * self.sensitivity(dimension)

    def weights(self, dimension: int) -> NDArray[np.int64]:
        """The whole numbers, int64 [bands], by which noise on sums of `dimension` parameters is correlated; public.

        Raises:
            ValueError: there is no room in 64 bits for such noise.
        """
        best = coefficients(self.cohort.rounds, self.bands, self.server.momentum)
        return whole_weights(best, self.noise_std(dimension) / self.noise_step)

    def event(self, view: View, survivors: int | None = None) -> Event:
        """What a round over so many survivors, or the fewest allowed, costs a unit of a client that takes part."""
        event = self.place.event(view, self.least_survivors if survivors is None else survivors)
        return event if event == Unbounded() else Composed(event, self.sums)

    @property
    def round_event(self) -> Event:
        """What one round costs at most, to whoever sees only what is released."""
        return self.event("released")

    @property
    def server_event(self) -> Event:
        """What one round costs at most against the server: no bound where the server adds the noise itself."""
        return self.event("server")

    def rotation(self, round: int) -> bytes:
        """The seed, 32 public bytes, of the rotation that the devices of a round share."""
        return digest("rotation", bytes.fromhex(self.digest), round)

    @property
    def budget(self) -> Budget:
        """The budget a ledger of this plan enforces."""
        p = self.privacy
        view: View = "released" if p.noise == "central" else "server"
        return Budget(p.epsilon, p.delta, p.unit, view)

    def cost(self) -> float:
        """The epsilon of the whole plan in the view that its budget binds."""
        return epsilon(Composed(self.event(self.budget.view), self.participations), self.privacy.delta)

    def resolved(self) -> Plan:
        """This plan with the noise multiplier written out: what is run, sent to devices and stored."""
        if self.privacy.noise_multiplier is not None:
            return self
        privacy = self.privacy.model_copy(update={"noise_multiplier": self.noise_multiplier})
        return self.model_copy(update={"privacy": privacy})

    def public(self) -> dict[str, Any]:
        """The plan as plain values, absent ones left out: what is digested and what devices get."""
        tables = self.model_dump(mode="json", exclude_none=True, exclude=set(self.private_sections))
        return {name: table for name, table in tables.items() if table}

    def named(self, study: str | None) -> Self:
        """This plan as that of the study with this id."""
        return self.model_copy(update={"study": Named(id=study)})

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
        tables = self.model_dump(mode="json", exclude_none=True)
        return _toml({name: table for name, table in tables.items() if table})


def _toml(sections: dict[str, Any]) -> str:
    tables = [
        f"[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    ]
    return "\n".join(tables)


def _toml_value(value: Any) -> str:
    """Return a value as TOML, which writes strings, numbers and lists as JSON does, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
