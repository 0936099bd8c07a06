"""A private training step against torch's step without privacy and against the modes of Opacus.

All methods run in turn in one process, on one thread, under one allocator setting (glibc keeps freed memory, as in
`bract simulate`). Times are processor time, on a GPU wall-clock time. A ratio is taken within one turn, and the
median over turns is reported, because a shared machine has fast and slow minutes. In one turn each method runs the
number of steps whose noise bract draws in one call: one step, or several for a small network. Bract's noise comes
from a cipher's keystream, Opacus' noise from torch's generator. Memory is the increase of a fresh process's peak by
one step; on a GPU, the increase of the GPU's peak.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from _bars import Bar, arguments, options_of, show
from _dpsgd_steps import CASES, MODES, Case, Step, make_step, noise_of, together_of

from bract.simulations import machine

BATCHES = (32, 128, 512)
SMALL = {"cnn": (1, 10, 10), "rnn": (2, 2)}
"""Networks, with the shape of their small records, that load the libraries before memory is measured."""
MEASURED = ("plain", "bract", "hooks")
"""Methods whose memory is measured."""

Row = dict[str, int | float | str]


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the time of `work` in seconds: processor time, on a GPU wall-clock time."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def steps_of(case: Case, count: int, device: str) -> dict[str, Step]:
    """Return the steps of the methods that can train the network, by method."""
    steps = {}
    for method in ("plain", "bract", "sum", *MODES):
        try:
            steps[method] = make_step(method, case, count, device)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError) as fault:
            print(f"{method} cannot train {case.name}: {str(fault)[:200]}", file=sys.stderr)
    return steps


def times(case: Case, count: int, repeats: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each method's step, and of our noise alone, for every turn."""
    steps, together = {**steps_of(case, count, device), "noise": noise_of(case)}, together_of(case)
    taken: dict[str, list[float]] = {method: [] for method in steps}
    for turn in range(repeats):
        order = list(steps)[turn % len(steps) :] + list(steps)[: turn % len(steps)]
        for method in order:
            taken[method].append(
                seconds(lambda step=steps[method]: [step() for _ in range(together)], device) / together
            )
    return taken


def ratio(taken: dict[str, list[float]], method: str, other: str) -> float:
    """Return the time of a method divided by the time of another, median over turns; NaN if the method failed."""
    if method not in taken:
        return float("nan")
    return statistics.median(a / b for a, b in zip(taken[method], taken[other], strict=True))


def added_memory(method: str, case: Case, count: int, device: str) -> float:
    """Return by how many MB a method's step raises the peak of memory; NaN if it fails."""
    if device == "cuda":
        return _added_on_gpu(method, case, count)
    words = [sys.executable, __file__, "--memory", method, case.name, str(count)]
    done = subprocess.run(words, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def _added_on_gpu(method: str, case: Case, count: int) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        make_step(method, case, count, "cuda")()
    except (NotImplementedError, RuntimeError, ValueError, AttributeError):
        return float("nan")
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def print_memory(method: str, case: Case, count: int) -> None:
    """Print the figure that `added_memory` reads. Steps of small networks run first, to load the libraries."""
    for name, small in SMALL.items():
        make_step(method, replace(CASES[name], shape=small), 1)
    before = _peak()
    step = make_step(method, case, count)
    step()
    print(_peak() - before)


def _peak() -> float:
    """Return the peak of this process's memory in MB, as Linux reports it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def judge(case: Case, taken: dict[str, list[float]], memory: dict[str, float]) -> list[Bar]:
    """Return the bars of one network."""
    over_opacus = max(ratio(taken, "bract", mode) for mode in MODES if mode in taken)
    return [
        Bar(f"{case.name}_over_plain", ratio(taken, "bract", "plain"), case.over_plain),
        Bar(f"{case.name}_over_best_opacus", over_opacus, case.over_opacus),
        Bar(f"{case.name}_noise_share", ratio(taken, "noise", "bract"), 0.1),
        Bar(f"{case.name}_memory_over_plain", memory["bract"] / memory["plain"], 1.2),
    ]


def measure(case: Case, options: argparse.Namespace) -> tuple[list[Row], list[Bar]]:
    """Return the rows and bars of one network."""
    rows, bars = list[Row](), list[Bar]()
    for count in sorted({*options.batches} if options.quick else {*options.batches, case.judged}):
        taken = times(case, count, options.repeats, options.device)
        memory = {method: added_memory(method, case, count, options.device) for method in MEASURED}
        ratios = {method: ratio(taken, method, "plain") for method in ("bract", "sum", "noise", *MODES)}
        row: Row = {"model": case.name, "batch": count, "plain ms": 1e3 * statistics.median(taken["plain"]), **ratios}
        rows.append(row | {f"{method} MB": value for method, value in memory.items()})
        if count == (min(options.batches) if options.quick else case.judged):
            bars += judge(case, taken, memory)
    return rows, bars


def main() -> None:
    """Compare each network at each batch size. Only one batch size is judged against the bars."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each method")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", nargs=3, metavar=("METHOD", "MODEL", "BATCH"), help="print one peak alone")
    options = options_of(parser, repeats=1, batches=[2], models=["cnn", "rnn"])
    machine.settle()
    if options.memory:
        method, name, count = options.memory
        return print_memory(method, CASES[name], int(count))
    rows, bars = list[Row](), list[Bar]()
    for name in options.models:
        more, judged = measure(CASES[name], options)
        rows, bars = rows + more, bars + judged
    show(rows, bars, options)


if __name__ == "__main__":
    main()
