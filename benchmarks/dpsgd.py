"""A private training step beside torch's own step without privacy and beside the modes of Opacus.

All steps of a network run in turn in one process, on one thread, under one allocator setting (glibc keeps freed
memory, as `bract simulate` has it); times are the process's processor time, on a GPU the clock's, and ratios medians
over turns of the two methods' in one turn: a shared machine has fast and slow minutes.
A turn is as many steps as bract makes the noise of at once: one, but of a small network some. Bract's noise comes
from a cipher's keystream, Opacus' from torch's generator. Memory is what a step adds to the peak of a fresh process;
on a GPU, to that of the GPU's memory.
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
"""Networks that load the libraries before memory is measured, and on how small records."""
MEASURED = ("plain", "bract", "hooks")
"""Methods whose memory is measured."""

Row = dict[str, int | float | str]


def seconds(work: Callable[[], object], device: str) -> float:
    """Return how long the processor, or the GPU, works on it."""
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
    """Return the steps that run, by method."""
    steps = {}
    for method in ("plain", "bract", "sum", *MODES):
        try:
            steps[method] = make_step(method, case, count, device)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError) as fault:
            print(f"{method} cannot train {case.name}: {str(fault)[:200]}", file=sys.stderr)
    return steps


def times(case: Case, count: int, repeats: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each method's step, and of our noise alone, in every turn."""
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
    """Return how long a method takes, the other taking one: the median over turns. Not a number if it failed."""
    if method not in taken:
        return float("nan")
    return statistics.median(a / b for a, b in zip(taken[method], taken[other], strict=True))


def added_memory(method: str, case: Case, count: int, device: str) -> float:
    """Return by how many MB steps of a method raise the peak; not a number if they fail."""
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
    """Print what `added_memory` reads; steps of the least networks come before, which load the libraries."""
    for name, small in SMALL.items():
        make_step(method, replace(CASES[name], shape=small), 1)
    before = _peak()
    step = make_step(method, case, count)
    step()
    print(_peak() - before)


def _peak() -> float:
    """Return the most memory that this process ever held, in MB, as Linux tells it."""
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
    """Compare each network at each batch size; the bars are for one."""
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
