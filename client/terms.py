"""The terms a device's owner set. Nothing the server sends can loosen them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..privacy import Budget, Composed, Mechanism, Plan, PlanError
from ..privacy.accounting.accountant import epsilon
from ..privacy.errors import printable
from ..privacy.secagg.graph import COMPLETE
from ..privacy.storage import read_owned, write_new

MOST_BYTES = 1 << 16
"""The largest file of terms."""

SAFE_TERMS = """\
# terms.toml: what this device accepts, whatever the server asks
max_epsilon = 8.0             # the most that any plan may spend, and all plans together
max_delta = 1e-4              # the delta of that, and the largest of any plan
trusted_server = false        # true also accepts plans whose noise the server adds
clear_updates = false         # true also accepts plans whose updates leave without masks
malicious_server = true       # only plans whose masks hold against a server that lies
min_survivors = 3             # the least number of devices that any sum of a plan may open over
min_colluders = 1             # the number of devices that may work with the server without harm, at least
hybrid_keys = false           # true: only plans whose keys also hold against a quantum computer
min_round_epsilon = 0.001     # the least that a round must be worth: one that costs nothing is a probe
max_plans_a_day = 10          # the most new plans that it takes up a day
max_refused_runs_a_day = 3    # after so many refused runs it takes up no new one that day
# models = ["cnn"]            # the only networks that it trains; without this line any
"""
"""What `bract terms init` writes."""


class Refused(Exception):
    """The plan asks for more than the terms allow; the reason is for the device's own log."""


class Terms(BaseModel):
    """What a device accepts.

    At most `max_epsilon` at `max_delta`, for each plan and for all rounds together that it ever takes part in; a
    server that sees sums without noise only if `trusted_server`; updates that leave without masks only with
    `clear_updates`. Under masks, `min_survivors` is the least number of devices that any sum of a plan may open over,
    `min_colluders` the least number of devices that may work with the server without harm, and with
    `malicious_server` the plan must hold against a server that lies. What `min_survivors` asks for a sparse graph
    does not give: with it such plans are refused. A day lets in at most `max_plans_a_day` new plans, and no new run
    after `max_refused_runs_a_day` were refused: each answer tells the server something of what was spent before.
    A round must be worth `min_round_epsilon`, its share of what all rounds of the plan cost at `max_delta`: rounds
    that cost nothing are of use to nobody but a server that probes. With `hybrid_keys` keys must be hybrid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_epsilon: float = Field(default=10.0, gt=0)
    max_delta: float = Field(default=1e-3, gt=0, lt=1)
    trusted_server: bool = False
    clear_updates: bool = False
    min_survivors: int | None = Field(default=None, ge=2, strict=True)
    min_colluders: int = Field(default=0, ge=0, strict=True)
    malicious_server: bool = False
    models: tuple[str, ...] | None = None
    hybrid_keys: bool = False
    min_round_epsilon: float = Field(default=1e-3, ge=0)
    max_refused_runs_a_day: int = Field(default=3, ge=1, strict=True)
    max_plans_a_day: int = Field(default=10, ge=1, strict=True)

    @property
    def budget(self) -> Budget:
        """The most that the device may ever spend, of whatever unit and view its plans are."""
        return Budget(self.max_epsilon, self.max_delta, "record", "server")

    def check(self, mechanism: Mechanism) -> None:
        """Refuse a plan, by its mechanism, that these terms do not cover.

        Raises:
            Refused: it goes past them, with the reason.
        """
        plan = mechanism.plan
        p = plan.privacy
        if p.epsilon > self.max_epsilon:
            raise Refused(f"the plan spends epsilon {p.epsilon:g}, these terms allow {self.max_epsilon:g}")
        if p.delta > self.max_delta:
            raise Refused(f"the plan has delta {p.delta:g}, these terms allow {self.max_delta:g}")
        if p.noise == "central" and not self.trusted_server:
            raise Refused("the plan leaves the noise to the server, these terms do not trust it")
        if plan.secure:
            self._check_masks(plan)
        elif not self.clear_updates:
            raise Refused("the plan has updates leave without masks, these terms do not")
        if self.min_round_epsilon:
            self._check_worth(mechanism)
        if self.models is not None and plan.model.name not in self.models:
            raise Refused(f"the plan trains {printable(plan.model.name)}, these terms allow {', '.join(self.models)}")

    def _check_worth(self, mechanism: Mechanism) -> None:
        rounds = mechanism.plan.participations
        worth = epsilon(Composed(mechanism.event(mechanism.budget_view), rounds), self.max_delta) / rounds
        if worth < self.min_round_epsilon:
            raise Refused(f"a round is worth epsilon {worth:.2g}, these terms want {self.min_round_epsilon:g}")

    def _check_masks(self, plan: Plan) -> None:
        if plan.colluders < self.min_colluders:
            raise Refused(f"the plan withstands {plan.colluders} colluders, these terms want {self.min_colluders}")
        if self.hybrid_keys and plan.aggregation.key_exchange != "hybrid":
            raise Refused(f"the plan's keys are {plan.aggregation.key_exchange}, these terms want hybrid")
        if self.malicious_server and not plan.malicious:
            raise Refused("the plan trusts the server to follow the protocol, these terms do not")
        if self.min_survivors is None:
            return
        if plan.least_survivors < self.min_survivors:
            raise Refused(
                f"the plan opens sums over {plan.least_survivors} devices, these terms want {self.min_survivors}: "
                f"the plan needs cohort.minimum = {self.min_survivors} or more"
            )
        if plan.cohort.size > COMPLETE:
            raise Refused(
                f"a cohort of {plan.cohort.size} has a sparse graph, in which a server that lies can open fewer than "
                f"min_survivors: these terms want at most {COMPLETE}"
            )


def read_terms(path: Path) -> Terms:
    """Return the terms in a TOML file.

    Raises:
        PlanError: the file is missing, not TOML, too large, or has a key or value that terms do not know.
        DataError: others than its owner can change it.
    """
    hint = "mend it: bract terms init NEW.toml writes all keys that there are, with what they mean"
    try:
        return Terms.model_validate(tomllib.loads(read_owned(path, MOST_BYTES).decode("utf-8")))
    except FileNotFoundError:
        raise PlanError(f"there are no terms {path}", f"write some: bract terms init {path}") from None
    except (OSError, UnicodeDecodeError):
        hint = "give a file of TOML that you can read: bract terms init NEW.toml writes one"
        raise PlanError(f"cannot read the terms {path}", hint) from None
    except ValidationError as fault:
        keys = ", ".join(".".join(str(part) for part in error["loc"]) for error in fault.errors()[:10])
        raise PlanError(f"the terms {path} are not valid at: {keys}", hint) from None
    except (ValueError, RecursionError) as fault:
        raise PlanError(f"the terms {path} are not valid: {fault}", hint) from None


def write_terms(path: Path) -> None:
    """Write a file of safe terms for an owner to read and change.

    Raises:
        PlanError: there is a file already.
        StorageError: it cannot be written.
    """
    try:
        write_new(path, SAFE_TERMS.encode())
    except FileExistsError:
        raise PlanError(f"{path} is there already", "read it, or give another name; nothing was written") from None
