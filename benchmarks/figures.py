"""The README's figures: accuracy of the shipped plans, over seeds."""

from __future__ import annotations

import statistics
import tempfile
from importlib.resources import files
from pathlib import Path

from _bars import Bar, arguments, options_of, show

from bract.privacy import override, read_tables
from bract.simulations import machine
from bract.simulations.run import simulate
from bract.simulations.study import make_study

LIMITS = {
    "digits-scattering-eps8": 0.95,
    "digits-scattering-eps2": 0.92,
    "digits-scattering-eps1": 0.89,
    "fashion-scattering-eps3": 0.89,
    "fashion-scattering-eps1": 0.87,
    "digits-distributed-eps8": 0.85,
    "digits-central-eps8": 0.85,
    "fashion-distributed-eps3": 0.80,
    "fashion-central-eps3": 0.80,
}


def accuracies(name: str, seeds: range, settings: list[str]) -> list[dict[str, object]]:
    """Return one row for each seed."""
    plan = Path(str(files("bract.simulations.experiments") / f"{name}.toml"))
    rows = []
    for seed in seeds:
        study = make_study(override(read_tables(plan), [*settings, f"simulation.seed={seed}"]))
        with tempfile.TemporaryDirectory() as folder:
            result = simulate(study, Path(folder) / "run")
        epsilon = result.epsilon["released"]
        rows.append(
            {"plan": name, "seed": seed, "accuracy": result.accuracy, "epsilon": epsilon, "seconds": result.seconds}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run each plan with every seed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plan", action="append", choices=list(LIMITS), help="only this plan")
    parser.add_argument("--set", action="append", default=[], help="override a key: privacy.unit=none")
    options = options_of(
        parser, seeds=1, set=["cohort.rounds=1"], plan=["digits-scattering-eps1", "digits-central-eps8"]
    )
    machine.settle()
    rows, bars = [], []
    for name in options.plan or LIMITS:
        found = accuracies(name, range(1, options.seeds + 1), options.set)
        rows += found
        mean = statistics.mean(row["accuracy"] for row in found)
        bars.append(Bar(f"{name}_accuracy_over_limit", mean / LIMITS[name], 1.0, at_least=True))
    show(rows, bars, options)


if __name__ == "__main__":
    main()
