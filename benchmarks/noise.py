"""Skellam noise, exact and from a keystream, beside numpy's difference of two Poisson numbers: time a sample.

Both sides make a million numbers at a time and take turns; times are medians of the thread's processor time, which
other programs on the machine do not add to. numpy's numbers come from a generator that is no cipher and through
floating point, so it is the peer in speed only. The table of a variance is made once and kept: a column of its own.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable

import numpy as np
from _bars import Bar, arguments, show

from bract.privacy import Keystream
from bract.privacy.skellam import skellam, tabulate

STDS = (5, 50, 150, 350, 1000)
JUDGED = (50, 150, 350)

Row = dict[str, int | float]


def seconds(work: Callable[[], object]) -> float:
    """Return how long the processor works on it."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def compare(std: int, count: int, repeats: int) -> Row:
    """Return the row of one standard deviation."""
    variance = float(std**2)
    keystream, generator = Keystream(secrets.token_bytes(32)), np.random.default_rng()
    tabulate.cache_clear()
    table = seconds(lambda: tabulate(variance))

    def poisson_pair() -> object:
        return generator.poisson(variance / 2, count) - generator.poisson(variance / 2, count)

    taken = [(seconds(lambda: skellam(variance, count, keystream)), seconds(poisson_pair)) for _ in range(repeats)]
    mine, other = (1e9 * statistics.median(times) / count for times in zip(*taken, strict=True))
    return {"std": std, "bract ns": mine, "numpy ns": other, "1 /": other / mine, "table ms": 1e3 * table}


def main() -> None:
    """Compare at each standard deviation; the bar is for those that plans lead to."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--count", type=float, default=1e6, help="numbers made at a time")
    parser.add_argument("--repeats", type=int, default=21, help="turns of each side")
    options = parser.parse_args()
    rows = [compare(std, int(options.count), options.repeats) for std in STDS]
    judged = [row for row in rows if row["std"] in JUDGED]
    bars = [
        Bar("skellam_ns_per_sample", max(row["bract ns"] for row in judged), 5.0),
        Bar("skellam_over_poisson_pair", max(row["bract ns"] / row["numpy ns"] for row in judged), 1 / 5),
        Bar("skellam_table_ms_std_1000", rows[-1]["table ms"], 300.0),
    ]
    show(rows, bars, options.json)


if __name__ == "__main__":
    main()
