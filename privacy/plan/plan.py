"""The plan: every public fact that the privacy claim rests on, in one frozen record with a digest.

What follows from the facts, the noise and its cost, is the plan's mechanism (`bract.privacy.mechanisms`). One TOML
file holds a plan, for a simulation and for a deployment alike.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from ..errors import PlanError
from ..secagg.graph import COMPLETE, thresholds
from .schema import Aggregation, Cohort, Data, Model, Named, Privacy, Server, Training, gives_one_away, least_units

ROUNDING_MARGIN = 2.0**-10
"""Share of the clip norm left free for float32 rounding in norms and sums: see `Plan.safe_clip_norm`."""


class Plan(BaseModel):
    """Every public fact of a training run: frozen; equal plans have equal digests. `accept_plan` makes one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    private_sections: ClassVar[frozenset[str]] = frozenset()

    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    cohort: Cohort = Cohort()
    privacy: Privacy = Privacy()
    aggregation: Aggregation = Aggregation()
    server: Server = Server()
    study: Named = Named()

    def __hash__(self) -> int:
        facts = self.data, self.model, self.training, self.cohort, self.privacy, self.aggregation, self.server
        return hash((*facts, self.study))

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

    @property
    def parameters(self) -> int:
        """How many parameters the model has.

        Raises:
            PlanError: the plan does not say.
        """
        if self.model.parameters is None:
            raise PlanError("the plan does not say how many parameters its model has", "set model.parameters")
        return self.model.parameters

    @property
    def colluders(self) -> int:
        """c: how many devices, wherever in the roster they are, may work with the server."""
        return thresholds(self.cohort.size, self.aggregation.colluders, self.aggregation.dropouts).colluders

    @property
    def least_survivors(self) -> int:
        """S: the fewest devices whose sum is opened, and so the fewest that are seated, however many there are.

        Under masks at least T, more than half of the planned cohort and the colluders together. Where devices share
        the noise, and in a sparse graph, all but those that may drop out: noise and graph are sized for them.
        """
        cohort, a = self.cohort, self.aggregation
        if a.protocol != "secagg":
            return cohort.minimum
        bounds = thresholds(cohort.size, a.colluders, a.dropouts)
        sized = self.privacy.noise == "distributed" or cohort.size > COMPLETE
        return max(bounds.least_in_sum, cohort.minimum, bounds.present if sized else 0)

    @property
    def sums(self) -> int:
        """How many noised sums a participant makes in a round: one a step, or the one change of its model."""
        return self.training.local_steps if self.privacy.unit == "record" else 1

    @property
    def safe_clip_norm(self) -> float:
        """The L2 norm that every record's gradient, or every client's change, is clipped to.

        It stays a 1/1024 below the `clip_norm` that the noise is scaled to, so that float32 rounding in norms
        and partial sums (1e-7 relative; tests measure it) cannot carry a record's share past `clip_norm`.
        """
        return self.privacy.clip_norm * (1 - ROUNDING_MARGIN)

    def public(self) -> dict[str, Any]:
        """The plan as plain values, absent ones left out: what is digested and what devices get."""
        tables = self.model_dump(mode="json", exclude_none=True, exclude=set(self.private_sections))
        return {name: table for name, table in tables.items() if table}

    def with_noise_multiplier(self, noise_multiplier: float) -> Self:
        """This plan with its noise multiplier written out: what is run, sent to devices and stored."""
        return self.model_copy(
            update={"privacy": self.privacy.model_copy(update={"noise_multiplier": noise_multiplier})}
        )

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
