"""Accuracy over epsilon: data, network and place of the noise, as a table and a plot for docs/accuracy.md.

The digits take five minutes on two cores, other data hours. A learning rate that is given for epsilon 1 grows with
epsilon, because less noise allows longer steps.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
from _bars import arguments, measured, options_of, show

matplotlib.use("svg")

from matplotlib import pyplot as plt

from bract.privacy import override, read_tables
from bract.simulations import machine
from bract.simulations.run import simulate
from bract.simulations.study import make_study

EPSILONS = (0.5, 1.0, 2.0, 3.0, 8.0)
NETWORKS: dict[str, dict[str, tuple[str, float | None]]] = {
    "digits": {"scattering": ("digits-scattering-eps1", 2.0), "cnn": ("digits-distributed-eps8", 0.5)},
    "fashion-mnist": {"scattering": ("fashion-scattering-eps3", 5.0), "cnn": ("fashion-distributed-eps3", 1.0)},
    "shakespeare": {"ngram": ("shakespeare-ngram-eps8", None)},
}
"""For each data set and network: a plan that ships with bract, and the learning rate for epsilon 1, if it changes."""

PLACES: dict[str, tuple[str, ...]] = {
    "distributed": (),
    "central": ("privacy.noise=central", "aggregation.protocol=sum", "privacy.shares=floor"),
}

Case = tuple[str, str, str, float, int]
"""Data, network, place of the noise, epsilon and seed."""


def measure(case: Case, settings: Sequence[str]) -> dict[str, Any]:
    """Return the row of one training."""
    machine.settle()
    data, network, place, epsilon, seed = case
    name, rate = NETWORKS[data][network]
    own = [*PLACES[place], f"privacy.epsilon={epsilon}", f"simulation.seed={seed}"]
    own += [] if rate is None else [f"training.learning_rate={rate * epsilon}"]
    tables = read_tables(Path(str(files("bract.simulations.experiments") / f"{name}.toml")))
    with tempfile.TemporaryDirectory() as folder:
        found = simulate(make_study(override(tables, [*own, *settings])), Path(folder) / "run")
    about = zip(("data", "network", "noise", "epsilon", "seed"), case, strict=True)
    return dict(about) | {"accuracy": found.accuracy, "charged": found.epsilon["released"]}


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the mean accuracy over epsilon, a line for each data set, network and place."""
    plt.rcParams["svg.hashsalt"] = "bract"
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for key in dict.fromkeys((row["data"], row["network"], row["noise"]) for row in rows):
        own = [row for row in rows if (row["data"], row["network"], row["noise"]) == key]
        at = sorted({row["epsilon"] for row in own})
        means = [statistics.mean(row["accuracy"] for row in own if row["epsilon"] == epsilon) for epsilon in at]
        axes.plot(at, means, marker="o", linestyle="-" if key[2] == "distributed" else "--", label=", ".join(key))
    axes.set(xscale="log", xlabel="epsilon", ylabel="accuracy", ylim=(0, 1))
    axes.set_xticks(EPSILONS, [f"{epsilon:g}" for epsilon in EPSILONS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train every case, in `--jobs` processes."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--data", action="append", choices=list(NETWORKS), help="only this data set (default: digits)"
    )
    parser.add_argument("--epsilon", action="append", type=float, help="only this epsilon")
    parser.add_argument("--place", action="append", choices=list(PLACES), help="only this place of the noise")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="override a key in all plans: cohort.rounds=3")
    parser.add_argument("--plot", type=Path, help="a new .svg file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = options_of(parser, set=["cohort.rounds=1"], epsilon=[8.0], place=["central"])
    cases: list[tuple[Case, list[str]]] = [
        ((data, network, place, epsilon, seed), options.set)
        for data in options.data or ["digits"]
        for network in NETWORKS[data]
        for place in options.place or PLACES
        for epsilon in options.epsilon or EPSILONS
        for seed in range(1, options.seeds + 1)
    ]
    rows = measured(measure, cases, options.jobs)
    if options.plot:
        plot(rows, options.plot)
    show(rows, [], options)


if __name__ == "__main__":
    main()
