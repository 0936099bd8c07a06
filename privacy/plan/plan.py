"""The plan: every public fact that the privacy claim rests on, in one frozen record with a digest.

The plan's mechanism (`bract.privacy.mechanisms`) derives the noise and its cost from these facts. A plan is one TOML
file, the same for a simulation and for a deployment.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, NamedTuple, Self, cast

from pydantic import BaseModel, ConfigDict

from ..errors import PlanError
from .schema import Aggregation, Cohort, Data, Model, Privacy, Server, StudyId, Training, gives_one_away, least_units
from .thresholds import COMPLETE, thresholds

ROUNDING_MARGIN = 2.0**-10
"""The fraction of the clip norm left free for float32 rounding in norms and sums: see `Plan.safe_clip_norm`."""


class Quorum(NamedTuple):
    """The numbers of devices that a plan's sums are secure with: at most c colluders, and at least S survivors."""

    colluders: int
    least_survivors: int


class Plan(BaseModel, frozen=True):
    """Every public fact of a training run: frozen. Equal plans have equal digests. `accept_plan` checks a plan."""

    model_config = ConfigDict(extra="forbid")
    private_sections: ClassVar[frozenset[str]] = frozenset()

    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    cohort: Cohort = Cohort()
    privacy: Privacy = Privacy()
    aggregation: Aggregation = Aggregation()
    server: Server = Server()
    study: StudyId = StudyId()

    @property
    def cell(self) -> tuple[str, str]:
        """The unit and the place of noise, for example `("record", "central")`."""
        return self.privacy.unit, self.privacy.noise

    @property
    def secure(self) -> bool:
        """Whether an update leaves a device only under masks."""
        return self.aggregation.protocol == "secagg"

    @property
    def malicious(self) -> bool:
        """Whether the protocol holds against a server that lies."""
        return self.aggregation.mode == "malicious-server"

    @property
    def participations(self) -> int:
        """The largest number of rounds that one client takes part in. Cohorts are chosen round robin."""
        return -(-self.cohort.rounds * self.cohort.size // self.data.clients)

    @property
    def large_delta(self) -> bool:
        """Whether delta is 1/n or more for the n units. `privacy.allow_large_delta` then allows it."""
        return gives_one_away(self.privacy.delta, least_units(self.data, self.training, self.privacy))

    @property
    def adaptive(self) -> bool:
        """Whether the clip norm follows the norms of the clients' changes."""
        return self.privacy.clip_quantile is not None

    @property
    def bands(self) -> int:
        """The number of bands of the noise: the least distance between two rounds of one client."""
        return self.privacy.bands or 1

    @property
    def correlated(self) -> bool:
        """Whether each round cancels part of the noise of earlier rounds."""
        return self.bands > 1

    @property
    def parameters(self) -> int:
        """The number of parameters of the model.

        Raises:
            PlanError: the plan does not give it.
        """
        if self.model.parameters is None:
            raise PlanError("the plan does not say how many parameters its model has", "set model.parameters")
        return self.model.parameters

    @property
    def colluders(self) -> int:
        """c: the largest number of colluders, devices anywhere in the roster that work with the server."""
        return self.quorum.colluders

    @property
    def least_survivors(self) -> int:
        """S: the least number of devices in a sum that is unmasked. A round with fewer devices does not start."""
        return self.quorum.least_survivors

    @property
    def quorum(self) -> Quorum:
        """The colluders c that the plan withstands, and the survivors S that it needs.

        Let n be the planned cohort and c the colluders. S is at least `cohort.minimum`. Under masks, 2 S > n + c.
        With distributed noise, and in a sparse graph, S is also at least n minus the allowed dropouts, because the
        noise and the graph are sized for that number.
        """
        cohort, a = self.cohort, self.aggregation
        bounds = thresholds(cohort.size, a.colluders, a.dropouts)
        if a.protocol != "secagg":
            return Quorum(bounds.colluders, cohort.minimum)
        sized = self.privacy.noise == "distributed" or cohort.size > COMPLETE
        return Quorum(bounds.colluders, max(bounds.least_in_sum, cohort.minimum, bounds.present if sized else 0))

    @property
    def sums(self) -> int:
        """The number of noised sums of a participant in a round: one for each step, or one change of the model."""
        return self.training.local_steps if self.privacy.unit == "record" else 1

    @property
    def safe_clip_norm(self) -> float:
        """The L2 norm that every record's gradient, or every client's change, is clipped to.

        It is 1/1024 below `clip_norm`, to which the noise is scaled. So float32 rounding in norms and partial sums
        (1e-7 relative; tests measure it) cannot bring what a record adds above `clip_norm`.
        """
        return self.privacy.clip_norm * (1 - ROUNDING_MARGIN)

    def public(self) -> dict[str, Any]:
        """The plan as plain values without the absent ones. The digest covers them, and devices receive them.

        The path of the weights is left out: their digest is the public fact.
        """
        private: dict[str, Any] = dict.fromkeys(self.private_sections, True) | {"model": {"weights"}}
        tables = self.model_dump(mode="json", exclude_none=True, exclude=private)
        return {name: table for name, table in tables.items() if table}

    def with_noise_multiplier(self, noise_multiplier: float) -> Self:
        """This plan with its noise multiplier filled in: the resolved plan, which is run, offered and stored."""
        return self.model_copy(
            update={"privacy": self.privacy.model_copy(update={"noise_multiplier": noise_multiplier})}
        )

    def named(self, study: str | None) -> Self:
        """This plan with this study id."""
        return self.model_copy(update={"study": StudyId(id=study)})

    @property
    def digest(self) -> str:
        """SHA-256 of the public plan in hexadecimal."""
        text = json.dumps(self.public(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def offered(self) -> str:
        """The public plan as TOML text, as the server offers it to devices."""
        return _toml(self.public())

    def to_toml(self) -> str:
        """The whole plan as TOML text, from which an equal plan can be read."""
        tables = self.model_dump(mode="json", exclude_none=True)
        return _toml({name: table for name, table in tables.items() if table})


def _toml(sections: dict[str, Any]) -> str:
    return "\n".join(_toml_section(name, section) for name, section in sections.items())


def _toml_section(name: str, section: dict[str, Any]) -> str:
    """Return a table as TOML, and after its own keys each table in it."""
    keys = [f"{key} = {_toml_value(value)}\n" for key, value in section.items() if not isinstance(value, dict)]
    tables = [(key, cast(dict[str, Any], value)) for key, value in section.items() if isinstance(value, dict)]
    below = [f"\n[{name}.{key}]\n{''.join(map(_toml_line, table.items()))}" for key, table in tables]
    return f"[{name}]\n{''.join(keys)}{''.join(below)}"


def _toml_line(entry: tuple[str, dict[str, Any]]) -> str:
    name, table = entry
    inside = ", ".join(f"{key} = {_toml_value(value)}" for key, value in table.items())
    return f"{_toml_value(name)} = {{{inside}}}\n"


def _toml_value(value: Any) -> str:
    """Return a value as TOML: as JSON for strings, numbers and lists, with one more character escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
