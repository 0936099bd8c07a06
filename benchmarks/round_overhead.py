"""The time of a simulated round beyond its gradients: LocalGrid, messages, sums, noise, ledger, checkpoint.

The same gradients are computed in a bare loop and in real rounds, in turn. The bar limits the median ratio of times.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from _bars import Bar, arguments, options_of, show

from bract.client.train import engine_for, torch_device
from bract.simulations import machine
from bract.simulations.population import Population, make_population
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study

ROUNDS = 4


def study() -> Study:
    """Return a plan of 11 clients that use all their records in every step, so that both sides do the same work."""
    privacy = {"sampling_rate": 1.0, "noise_multiplier": 10.0}
    tables = {"cohort": {"rounds": ROUNDS}, "privacy": privacy, "server": {"evaluate_every": ROUNDS}}
    return make_study(tables)


def bare(plan: Study, population: Population) -> float:
    """Return the seconds of the gradients alone, for `ROUNDS` rounds."""
    began = time.perf_counter()
    for _ in range(ROUNDS):
        for client in range(population.clients):
            engine_for(plan).clipped_sum(population.client(client))
    return time.perf_counter() - began


def rounds(plan: Study) -> float:
    """Return the seconds of the rounds of a simulation."""
    with tempfile.TemporaryDirectory() as folder:
        return simulate(plan, Path(folder) / "run").seconds


def main() -> None:
    """Time both in turn."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=5)
    options = options_of(parser, repeats=1)
    machine.settle()
    torch.set_num_threads(1)
    plan = study()
    population = make_population(plan, torch_device())
    bare(plan, population)
    rows = []
    for _ in range(options.repeats):
        alone, whole = bare(plan, population), rounds(plan)
        rows.append({"gradients s": alone, "rounds s": whole, "ratio": whole / alone})
    ratio = statistics.median(row["ratio"] for row in rows)
    show(rows, [Bar("rounds_over_gradients", ratio, 1.15)], options)


if __name__ == "__main__":
    main()
