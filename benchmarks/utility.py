"""The accuracy that privacy without a trusted server costs on Fashion-MNIST: differences of means over seeds.

Record level, 100 clients, epsilon 3: distributed noise against pooled DP-SGD by Opacus, and a skewed split against an
even one. Client level, 5,000 clients of 12 records, epsilon 8, 8 rounds: distributed noise against central noise. All
train `scattering`. The masks of secure aggregation are left out, which changes no sum. One seed takes 40
minutes of one core.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from _bars import Bar, arguments, measured, options_of, show

from bract.privacy import override, read_tables
from bract.simulations import machine
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study, mechanism_for

POINT = 0.01
RECORDS, CLIENTS = "fashion-scattering-eps3", "fashion-scattering-client-eps8"
NO_MASKS = "simulation.masks=false"
CENTRAL = ("privacy.noise=central", "aggregation.protocol=sum")
FEWER = "cohort.rounds=8"
VARIANTS: dict[str, tuple[str, ...]] = {
    "client_distributed": (CLIENTS, FEWER),
    "client_central": (CLIENTS, FEWER, *CENTRAL),
    "record_distributed": (RECORDS, NO_MASKS),
    "dirichlet": (RECORDS, NO_MASKS, "data.split=dirichlet:0.3"),
    "pooled": (RECORDS,),
}
"""For each variant, its plan and the settings that override it."""

QUICK = ["cohort.rounds=1", "data.clients=50", "cohort.size=50", "data.records=600", "training.batch_size=12"]
QUICK += ["model.name=logistic"]

PAIRS = {
    "record_distributed_minus_pooled": ("record_distributed", "pooled"),
    "dirichlet_minus_iid": ("dirichlet", "record_distributed"),
    "client_distributed_minus_central": ("client_distributed", "client_central"),
}
"""For each bar, two variants: the bar limits how much worse the first may be than the second."""


def study_of(variant: str, seed: int, settings: Sequence[str]) -> Study:
    """Return the study of a variant. `settings` override its own."""
    name, *own = VARIANTS[variant]
    plan = Path(str(files("bract.simulations.experiments") / f"{name}.toml"))
    return make_study(override(read_tables(plan), [*own, f"simulation.seed={seed}", *settings]))


def measure(variant: str, seed: int, settings: Sequence[str]) -> dict[str, object]:
    """Return the row of one training."""
    machine.settle()
    study = study_of(variant, seed, settings)
    if variant == "pooled":
        from _pooled import pooled_accuracy

        accuracy, noise = pooled_accuracy(study, seed)
        epsilon: float | None = study.privacy.epsilon
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = simulate(study, Path(folder) / "run")
        accuracy, noise, epsilon = result.accuracy, mechanism_for(study).noise_multiplier, result.epsilon["released"]
    return {"variant": variant, "seed": seed, "accuracy": accuracy, "noise multiplier": noise, "epsilon": epsilon}


def main() -> None:
    """Train every variant, in `--jobs` processes, and compare the means over seeds."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="only this one")
    parser.add_argument("--set", action="append", default=[], help="override a key in all plans: cohort.rounds=3")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = options_of(parser, set=QUICK)
    variants = options.variant or list(VARIANTS)
    cases = [(variant, seed, options.set) for variant in variants for seed in range(1, options.seeds + 1)]
    rows = measured(measure, cases, options.jobs)
    means = {v: statistics.mean(row["accuracy"] for row in rows if row["variant"] == v) for v in variants}
    pairs = {name: pair for name, pair in PAIRS.items() if set(pair) <= set(variants)}
    bars = [Bar(name, means[one] - means[other], -POINT, at_least=True) for name, (one, other) in pairs.items()]
    show(rows, bars, options)


if __name__ == "__main__":
    main()
