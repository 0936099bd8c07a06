"""Learning curves for Shakespeare's speakers: the accuracy of the next character after each round.

Two shipped plans protect a record or a client. For each there is the same training almost without clip and noise, and
there is one training with as many rounds as it needs. A curve that `--out` already holds is not trained again, and an
interrupted one is continued. All curves together take hours of one core.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from _bars import options_of

matplotlib.use("svg")

from matplotlib import pyplot as plt

from bract.privacy import override, read_tables
from bract.simulations import experiments, machine
from bract.simulations.run import simulate
from bract.simulations.study import make_study

FLOOR = 0.563
"""The accuracy of a table that predicts a character from the six before it, counted over all training parts."""

MASKLESS = "simulation.masks=false"
OPEN_CLIENT = (
    "privacy.noise=central",
    "aggregation.protocol=sum",
    "privacy.clip_norm=1000",
    "privacy.noise_multiplier=1e-6",
    "privacy.epsilon=1e15",
    "cohort.size=114",
    "cohort.rounds=300",
    "training.local_steps=4",
    "server.optimizer=adam",
    "server.learning_rate=0.01",
)
LONG = (
    "privacy.unit=none",
    "privacy.noise=central",
    "aggregation.protocol=sum",
    "data.shape=[200]",
    "privacy.sampling_rate=0.17",
    "training.batch_size=35",
    "cohort.size=6",
    "cohort.rounds=12000",
    "server.learning_rate=0.004",
    "server.averaging=0.999",
    "server.evaluate_every=1000",
)
QUICK = ("cohort.rounds=1", "cohort.size=2", "server.evaluate_every=1")
CURVES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "record-eps8": ("shakespeare-record-eps8", (MASKLESS,)),
    "record-open": ("shakespeare-record-eps8", (MASKLESS, "privacy.unit=none", "server.learning_rate=0.01")),
    "client-eps8": ("shakespeare-client-eps8", (MASKLESS,)),
    "client-open": ("shakespeare-client-eps8", OPEN_CLIENT),
    "long-open": ("shakespeare-record-eps8", LONG),
}
"""For each curve: its plan, and the settings that override it."""

LABELS = {
    "record-eps8": "records protected, epsilon 8",
    "record-open": "the same at half the server's rate, nobody protected",
    "client-eps8": "speakers protected, epsilon 8",
    "client-open": "FedAvg with FedAdam, nobody protected",
    "long-open": "one step a round of 6 speakers, 200 characters a record, nobody protected",
}


def train(name: str, folder: Path, besides: Sequence[str]) -> None:
    """Train a curve, from the start or from its last checkpoint. `besides` are further settings of its plan."""
    plan, settings = CURVES[name]
    tables = read_tables(Path(experiments.__file__).parent / f"{plan}.toml")
    simulate(make_study(override(tables, [*settings, *besides, "simulation.seed=1"]), name), folder)


def points(folder: Path) -> list[tuple[int, float]]:
    """Return the rounds and accuracies of a curve so far."""
    path = folder / "metrics.jsonl"
    records = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return [(record["round"], record["figures"]["accuracy"]) for record in records if record["figures"]]


def plot(curves: Mapping[str, list[tuple[int, float]]], path: Path) -> None:
    """Plot the curves over rounds, on a logarithmic scale."""
    plt.rcParams["svg.hashsalt"] = "bract"
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, found in curves.items():
        if found:
            axes.plot(*zip(*found, strict=True), label=LABELS[name], marker=".")
    axes.axhline(FLOOR, color="grey", linestyle=":", label="a 7-gram table of the pooled text")
    axes.set(xscale="log", xlabel="round", ylabel="accuracy", ylim=(0, 0.6))
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train the requested curves that are not complete, and plot all curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/shakespeare"), help="folder of a folder a curve")
    parser.add_argument("--train", nargs="*", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--plot", type=Path, default=Path("shakespeare.svg"))
    parser.add_argument("--quick", action="store_true", help="train a round of each in a new folder, to see it run")
    scratch = Path(tempfile.gettempdir()) / f"bract-{secrets.token_hex(8)}"
    options = options_of(parser, out=scratch, plot=scratch / "shakespeare.svg")
    machine.settle()
    for name in options.train:
        print(f"training {name}", file=sys.stderr)
        train(name, options.out / name, QUICK if options.quick else ())
    curves = {name: points(options.out / name) for name in CURVES}
    plot(curves, options.plot)
    for name, found in curves.items():
        last = "not there" if not found else f"{found[-1][1]:.1%} after {found[-1][0]} rounds"
        print(f"{LABELS[name]}: {last}")


if __name__ == "__main__":
    main()
