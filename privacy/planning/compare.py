"""The epsilon of each accountant for the same events, which one is charged, and why.

Figures without a proof are marked as estimates, for comparison with what other libraries print.
"""

# The library below ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import log_ndtr, ndtr

from ..accounting.accountant import GRIDS, pld_epsilon, rdp_epsilon, spent
from ..accounting.events import Composed, Event, Gaussian, PoissonSampled, as_gaussian
from ..accounting.root_finding import crossing
from ..mechanisms.choose import mechanism_of
from ..plan.plan import Plan

Standing = Literal["reported", "bound", "estimate"]
"""The status of a figure: charged by the ledger, another proven upper bound, or an estimate without proof."""


@dataclass(frozen=True)
class AccountantFigure:
    """The epsilon of one accountant, None if it has no figure, with its status and the reason."""

    accountant: str
    epsilon: float | None
    standing: Standing
    why: str


def accountants(plan: Plan) -> tuple[AccountantFigure, ...]:
    """Return each accountant's figure for the plan in the view that its budget limits; first the charged one."""
    mechanism = mechanism_of(plan)
    event = Composed(mechanism.event(mechanism.budget_view), plan.participations)
    delta, gaussian = plan.privacy.delta, as_gaussian(event)
    rdp = rdp_epsilon(((event, 1),), delta)
    if gaussian == event and (reported := spent(((event, 1),), delta)) < rdp:
        figures = [
            AccountantFigure("pld", reported, "reported", PLD),
            AccountantFigure("rdp", rdp, "bound", RDP_BESIDE),
        ]
    elif gaussian == event:
        figures = [AccountantFigure("rdp", rdp, "reported", RDP_VAST)]
    else:
        pld = pld_epsilon(((gaussian, 1),), delta, GRIDS[0])
        figures = [
            AccountantFigure("rdp", rdp, "reported", RDP_ALONE),
            AccountantFigure("pld", pld, "estimate", PLD_STAND_IN),
        ]
    return (*figures, _central_limit(gaussian, delta, event == gaussian))


PLD = "privacy loss distributions, rounded up: a proof, and the tightest; this is what the ledger charges"
RDP_BESIDE = "a Renyi bound: a proof too, less tight; computed beside every figure, which may not exceed it"
RDP_VAST = "a Renyi bound: a proof; where nobody is protected finer accounting is idle"
RDP_ALONE = "a Renyi bound: a proof for skellam noise too, so this is what the ledger charges"
PLD_STAND_IN = "for gaussian noise of the same size: no proof for skellam noise"
EXACT = "closed form for gaussian noise without sampling: exact, so it checks the others"
EXACT_STAND_IN = "closed form for gaussian noise of the same size: no proof for skellam noise"
LIMIT = "central limit of gaussian dp: no bound, it can lie below the true value; never charged"


def _central_limit(event: Event, delta: float, proven: bool) -> AccountantFigure:
    """Return the figure of Gaussian differential privacy, which is exact without sampling.

    Reference: Bu, Dong, Long, Su 2020, Deep Learning with Gaussian Differential Privacy, corollary 4.
    """
    rate, noise_multiplier, count = _flat(event)
    exact = rate == 1
    power = math.inf if noise_multiplier < MOST_CURVED else math.expm1(noise_multiplier**-2)
    mu = math.sqrt(count) / noise_multiplier if exact else rate * math.sqrt(count * power)
    why = (EXACT if proven else EXACT_STAND_IN) if exact else LIMIT
    return AccountantFigure("gdp", gaussian_epsilon(mu, delta), "bound" if exact and proven else "estimate", why)


MOST_CURVED = 0.04
"""The least noise multiplier whose chi-square divergence fits into a float."""


def _flat(event: Event, count: int = 1, rate: float = 1.0) -> tuple[float, float, int]:
    """Return the sampling rate, the noise multiplier and the number of steps of an event with Gaussian noise."""
    match event:
        case Composed(inner, times):
            return _flat(inner, count * times, rate)
        case PoissonSampled(part, inner):
            return _flat(inner, count, rate * part)
        case Gaussian(noise_multiplier):
            return rate, noise_multiplier, count
        case _:
            raise ValueError("expected an event of gaussian noise")


def gaussian_epsilon(mu: float, delta: float) -> float | None:
    """Return the epsilon of mu-GDP (distinguishing N(0, 1) from N(mu, 1)); None if mu exceeds `MOST_MU`.

    Reference: Balle, Wang 2018, theorem 8; Dong, Roth, Su 2022, corollary 2.13.
    """
    if mu > MOST_MU:
        return None

    def excess(epsilon: float) -> float:
        below = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(ndtr(mu / 2 - epsilon / mu) - math.exp(below)) - delta

    if excess(0.0) <= 0:
        return 0.0
    return crossing(excess, 0.0, mu**2 / 2 + 40 * mu, 1e-10 * mu)


MOST_MU = 1e3
