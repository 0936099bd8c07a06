"""The terms of a device's owner, which no message of a server can relax."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..models import NETWORKS
from ..privacy import Budget, Composed, Mechanism, Plan, PlanError
from ..privacy.accounting.accountant import epsilon
from ..privacy.errors import printable
from ..privacy.plan.thresholds import COMPLETE
from ..privacy.storage import read_owned, write_new

MOST_TERMS_BYTES = 1 << 16
"""The largest file of terms."""

SAFE_TERMS = """\
# terms.toml: what this device accepts, whatever the server asks
max_epsilon = 8.0             # the most that a plan may spend, and all plans together
max_delta = 1e-4              # the delta of max_epsilon, and the largest delta of a plan
trusted_server = false        # true also accepts plans whose noise the server adds
clear_updates = false         # true also accepts plans whose updates have no masks
malicious_server = true       # only plans that are secure against a malicious server
min_survivors = 3             # the fewest devices in any sum that a plan opens
min_colluders = 1             # the fewest colluding devices that a plan must withstand
hybrid_keys = false           # true: only plans whose keys also resist a quantum computer
min_round_epsilon = 0.001     # the smallest epsilon of a round: a cheaper round is a probe
max_plans_a_day = 10          # the most new plans that it accepts in a day
max_refused_runs_a_day = 3    # after this many refused runs, it accepts no new run that day
# models = ["cnn"]            # the only networks that it trains; without this line, all of bract's
"""
"""What `bract terms init` writes."""


class Refused(Exception):
    """The plan exceeds the terms; the reason is only for the device's own log."""


class Terms(BaseModel):
    """The limits of what a device accepts.

    `max_epsilon` at `max_delta` limits each plan, and the total over all rounds that the device ever takes part in. A
    plan whose noise the server adds needs `trusted_server`, a plan without masks needs `clear_updates`. With masks,
    every sum of a plan must contain at least `min_survivors` devices, and the plan must withstand at least
    `min_colluders` devices that collude with the server. With `malicious_server` it must also withstand a server that
    deviates from the protocol. A sparse graph cannot ensure `min_survivors`, so plans with one are refused if it is
    set. `hybrid_keys` requires a hybrid key exchange.

    In one day, the device accepts at most `max_plans_a_day` new plans. After it refused `max_refused_runs_a_day`
    runs, it accepts no new run that day. Each answer reveals a little about what was spent before. The epsilon of all
    rounds of a plan at `max_delta`, divided by their number, must be at least `min_round_epsilon`: only a server that
    probes has a use for rounds that cost nothing.
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
        """The limit on the device's total spending, over plans of every unit and view."""
        return Budget(self.max_epsilon, self.max_delta, "record", "server")

    def check(self, mechanism: Mechanism) -> None:
        """Check that these terms cover the plan of a mechanism.

        Raises:
            Refused: the plan exceeds the terms; the text says how.
        """
        plan = mechanism.plan
        p = plan.privacy
        if p.epsilon > self.max_epsilon:
            raise Refused(f"the plan spends epsilon {p.epsilon:g}, these terms allow {self.max_epsilon:g}")
        if p.delta > self.max_delta:
            raise Refused(f"the plan has delta {p.delta:g}, these terms allow {self.max_delta:g}")
        if p.noise == "central" and not self.trusted_server:
            raise Refused("the plan lets the server add the noise, these terms do not trust it")
        if plan.secure:
            self._check_masks(plan)
        elif not self.clear_updates:
            raise Refused("the plan sends updates without masks, these terms do not allow it")
        if self.min_round_epsilon:
            self._check_worth(mechanism)
        self.check_network(plan.model.name)

    def check_network(self, name: str) -> None:
        """Check by its name that these terms allow a network, so that a refused network's module is not imported.

        Without `models` they allow the networks that come with bract.

        Raises:
            Refused: they do not.
        """
        if self.models is None and name not in NETWORKS:
            raise Refused(f"the plan trains {printable(name)}, which does not come with bract: list it in models")
        if self.models is not None and name not in self.models:
            raise Refused(f"the plan trains {printable(name)}, these terms allow {', '.join(self.models)}")

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
        PlanError: the file is missing, not TOML, too large, or has a key or value that is not valid.
        DataError: users other than its owner can change it.
    """
    hint = "correct it: bract terms init NEW.toml writes all keys with their meaning"
    try:
        return Terms.model_validate(tomllib.loads(read_owned(path, MOST_TERMS_BYTES).decode("utf-8")))
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
    """Write a file of safe terms, which the owner may edit.

    Raises:
        PlanError: the file exists already.
        StorageError: the file cannot be written.
    """
    try:
        write_new(path, SAFE_TERMS.encode())
    except FileExistsError:
        raise PlanError(f"{path} is there already", "read it, or give another name; nothing was written") from None
