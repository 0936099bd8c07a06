"""Our epsilon against Opacus' three accountants in 20 settings: tightness and time."""

from __future__ import annotations

import time
import warnings

from _bars import Bar, arguments, options_of, show
from opacus.accountants import GaussianAccountant, PRVAccountant, RDPAccountant

from bract.privacy import Composed, Gaussian, PoissonSampled
from bract.privacy.accounting.accountant import epsilon

DELTA = 1e-5
PRV_ERROR = 1e-3
"""The allowed error of the PRV accountant's epsilon. Its default, 0.01, is 5 % of the least epsilon here."""
SETTINGS = [
    (rate, noise, steps)
    for rate, steps in [(0.01, 500), (0.01, 5000), (0.05, 100), (0.05, 1000), (0.25, 60)]
    for noise in (0.8, 1.2, 2.0, 4.0)
]


def opacus(kind: type, rate: float, noise: float, steps: int) -> tuple[float, float]:
    """Return (epsilon, seconds) of an Opacus accountant."""
    precise = {"eps_error": PRV_ERROR} if kind is PRVAccountant else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accountant = kind()
        accountant.history = [(noise, rate, steps)]
        began = time.perf_counter()
        return float(accountant.get_epsilon(DELTA, **precise)), time.perf_counter() - began


def ours(rate: float, noise: float, steps: int) -> tuple[float, float]:
    """Return (epsilon, seconds) of our accountant, without a cache."""
    event = Composed(PoissonSampled(rate, Gaussian(noise)), steps)
    began = time.perf_counter()
    return epsilon(event, DELTA), time.perf_counter() - began


def main() -> None:
    """Run all settings, each accountant in turn."""
    options = options_of(arguments(__doc__ or ""))
    rows = []
    for setting in SETTINGS[:2] if options.quick else SETTINGS:
        mine, seconds = ours(*setting)
        prv, prv_seconds = opacus(PRVAccountant, *setting)
        rdp, _ = opacus(RDPAccountant, *setting)
        gdp, _ = opacus(GaussianAccountant, *setting)
        figures = {"bract": mine, "opacus prv": prv, "opacus rdp": rdp, "opacus gdp (no bound)": gdp}
        rate, noise, steps = setting
        rows.append({"rate": rate, "noise": noise, "steps": steps, **figures, "time": seconds / prv_seconds})
    deviation = max(abs(row["bract"] / row["opacus prv"] - 1) for row in rows)
    looseness = max(row["bract"] / row["opacus rdp"] for row in rows)
    times = sorted(row["time"] for row in rows)[len(rows) // 2]
    bars = [
        Bar("epsilon_deviation_from_prv", deviation, 0.01),
        Bar("epsilon_over_opacus_rdp", looseness, 1.0),
        Bar("time_over_prv", times, 1.0),
    ]
    show(rows, bars, options)


if __name__ == "__main__":
    main()
