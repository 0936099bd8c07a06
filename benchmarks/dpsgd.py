"""A private training step beside torch's own step without privacy and beside the modes of Opacus.

All steps of a network run in turn in one process, on one thread, under one allocator setting (glibc keeps freed
memory, as `bract simulate` has it); times are medians of the process's processor time. Bract's noise comes from a
cipher's keystream, Opacus' from torch's generator. Memory is what a step adds to the peak of a fresh process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from _bars import Bar, arguments, show
from _dpsgd_steps import MODES, Step, make_step, noise_of

from bract.simulations import machine

LIMITS = {"cnn": (0.95, 1 / 1.7), "cnn-large": (1.05, 0.5)}
"""Networks, and what our step may take of torch's and of Opacus' best, at the judged batch."""
BATCHES, JUDGED = (32, 128, 512), 128

Row = dict[str, int | float | str]


def seconds(work: Callable[[], object]) -> float:
    """Return how long the processor works on it."""
    began = time.process_time()
    work()
    return time.process_time() - began


def steps_of(name: str, count: int) -> dict[str, Step]:
    """Return the steps that run, by method."""
    steps = {}
    for method in ("plain", "bract", *MODES):
        try:
            steps[method] = make_step(method, name, count)
        except (NotImplementedError, RuntimeError, ValueError) as fault:
            print(f"{method} cannot train {name}: {fault}", file=sys.stderr)
    return steps


def times(name: str, count: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of each method's step, and of our noise alone."""
    steps = {**steps_of(name, count), "noise": noise_of(name)}
    taken: dict[str, list[float]] = {method: [] for method in steps}
    for turn in range(repeats):
        order = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        for method in order:
            taken[method].append(seconds(steps[method]))
    return {method: statistics.median(values) for method, values in taken.items()}


def added_memory(method: str, name: str, count: int) -> float:
    """Return by how many MB steps of a method raise the peak of a fresh process."""
    words = [sys.executable, __file__, "--memory", method, name, str(count)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def print_memory(method: str, name: str, count: int) -> None:
    """Print what `added_memory` reads; a step on one record comes before, which loads the libraries."""
    make_step(method, name, 1)
    before = _peak()
    step = make_step(method, name, count)
    step()
    print(_peak() - before)


def _peak() -> float:
    """Return the most memory that this process ever held, in MB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def judge(name: str, found: dict[str, float], memory: float) -> list[Bar]:
    """Return the bars of one network."""
    of_plain, of_opacus = LIMITS[name]
    best = min(found[mode] for mode in MODES if mode in found)
    return [
        Bar(f"{name}_over_plain", found["bract"] / found["plain"], of_plain),
        Bar(f"{name}_over_best_opacus", found["bract"] / best, of_opacus),
        Bar(f"{name}_noise_share", found["noise"] / found["bract"], 0.1),
        Bar(f"{name}_memory_over_plain", memory, 1.2),
    ]


def main() -> None:
    """Compare each network at each batch size; the bars are for one."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each method")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument(
        "--memory", nargs=3, metavar=("METHOD", "MODEL", "BATCH"), help="print one method's peak alone"
    )
    options = parser.parse_args()
    machine.settle()
    if options.memory:
        method, name, count = options.memory
        return print_memory(method, name, int(count))
    rows, bars = list[Row](), list[Bar]()
    for name in LIMITS:
        for count in sorted({*options.batches, JUDGED}):
            found = times(name, count, options.repeats)
            memory = {method: added_memory(method, name, count) for method in ("plain", "bract")}
            ratios = {
                method: found.get(method, float("nan")) / found["plain"] for method in ("bract", "noise", *MODES)
            }
            rows.append(
                {"model": name, "batch": count, "plain ms": 1e3 * found["plain"], **ratios, **_megabytes(memory)}
            )
            if count == JUDGED:
                bars += judge(name, found, memory["bract"] / memory["plain"])
    show(rows, bars, options.json)


def _megabytes(memory: dict[str, float]) -> Row:
    return {f"{method} MB": value for method, value in memory.items()}


if __name__ == "__main__":
    main()
