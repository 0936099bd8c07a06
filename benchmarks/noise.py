"""The time of a sample of our exact Skellam and Gaussian noise from a keystream, against numpy's generators.

Both sides draw a million samples at a time and take turns. Times are medians of the thread's processor time, which
excludes other programs. numpy's generator is not a cipher and uses floating point, so only its speed is compared. The
look-up tables of a variance are built once and cached; their time is a column of its own.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _bars import Bar, arguments, options_of, show

from bract.privacy import Keystream
from bract.privacy.noise import gaussian as noise
from bract.privacy.noise import skellam

STDS = (5, 50, 150, 350, 1000)
JUDGED = (50, 150, 350)
WIDE = (2.0**10, 2.0**14, 2.0**20, 2.0**30)
"""Standard deviations of Gaussian noise, in steps. On the finest grid a plan has its noise multiplier times 2^30."""

Row = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of `work` in seconds."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def as_row(name: str, count: int, mine: list[float], other: list[float], table: float) -> Row:
    """Return the row of one distribution, from our seconds, numpy's seconds, and the seconds to build our tables."""
    ours, theirs = (1e9 * statistics.median(times) / count for times in (mine, other))
    return {"law": name, "bract ns": ours, "numpy ns": theirs, "1 /": theirs / ours, "table ms": 1e3 * table}


def compare_skellam(std: int, count: int, repeats: int) -> Row:
    """Return the row of one standard deviation. numpy's Skellam sample is a difference of two Poisson samples."""
    variance = float(std**2)
    keystream, generator = Keystream(secrets.token_bytes(32)), np.random.default_rng()
    skellam.tabulate.cache_clear()
    table = seconds(lambda: skellam.tabulate(variance))

    def poisson_pair() -> object:
        return generator.poisson(variance / 2, count) - generator.poisson(variance / 2, count)

    turns = range(repeats)
    taken = [(seconds(lambda: skellam.skellam(variance, count, keystream)), seconds(poisson_pair)) for _ in turns]
    mine, other = map(list, zip(*taken, strict=True))
    return as_row(f"skellam {std}", count, mine, other, table)


def compare_gaussian(std: float, count: int, repeats: int) -> Row:
    """Return the row of one standard deviation. numpy's sample is a rounded normal sample (ziggurat)."""
    keystream, generator = Keystream(secrets.token_bytes(32)), np.random.default_rng()
    noise.tabulate.cache_clear()
    table = seconds(lambda: noise.gaussian(std, 0, keystream))

    def rounded() -> object:
        return np.rint(std * generator.standard_normal(count)).astype(np.int64)

    turns = range(repeats)
    taken = [(seconds(lambda: noise.gaussian(std, count, keystream)), seconds(rounded)) for _ in turns]
    mine, other = map(list, zip(*taken, strict=True))
    return as_row(f"gaussian {std:.0f}", count, mine, other, table)


def main() -> None:
    """Compare at each standard deviation. Skellam's bars are for the standard deviations of usual plans."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--count", type=float, default=1e6, help="numbers made at a time")
    parser.add_argument("--repeats", type=int, default=21, help="turns of each side")
    options = options_of(parser, count=1e3, repeats=1)
    count, repeats = int(options.count), options.repeats
    rows = [compare_skellam(std, count, repeats) for std in STDS]
    judged = [row for std, row in zip(STDS, rows, strict=True) if std in JUDGED]
    wide = {std: compare_gaussian(std, count, repeats) for std in WIDE}
    bars = [
        Bar("skellam_ns_per_sample", max(row["bract ns"] for row in judged), 5.0),
        Bar("skellam_over_poisson_pair", max(row["bract ns"] / row["numpy ns"] for row in judged), 1 / 5),
        Bar("skellam_table_ms_std_1000", rows[-1]["table ms"], 300.0),
        Bar("gaussian_ns_per_sample_std_16384", wide[2.0**14]["bract ns"], 12.0),
        Bar("gaussian_table_ms", max(row["table ms"] for row in wide.values()), 100.0),
    ]
    rows += wide.values()
    show(rows, bars, options)


if __name__ == "__main__":
    main()
