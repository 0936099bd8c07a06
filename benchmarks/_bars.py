"""The output of every benchmark: a table, and with --json one last line of JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """A figure and its limit: an upper limit, or a lower one with `at_least`."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure meets its limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def arguments(about: str) -> argparse.ArgumentParser:
    """Return the parser that every script starts from."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print rows and bars as one last line of JSON")
    parser.add_argument(
        "--quick", action="store_true", help="run at a tiny size, to see that it runs: nothing is judged"
    )
    return parser


def options_of(parser: argparse.ArgumentParser, **quick: object) -> argparse.Namespace:
    """Return the command line's options. With --quick, the values named here are the defaults."""
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args()


def measured(
    measure: Callable[..., dict[str, Any]], cases: Sequence[tuple[Any, ...]], jobs: int
) -> list[dict[str, Any]]:
    """Return `measure(*case)` of each case, in their order; print each row as it comes, from `jobs` processes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs) as pool:
        runs = [pool.submit(measure, *case) for case in cases]
        for run in as_completed(runs):
            print(run.result(), flush=True)
        return [run.result() for run in runs]


def show(rows: Sequence[Mapping[str, object]], bars: Sequence[Bar], options: argparse.Namespace) -> None:
    """Print the rows and the bars, with --json also as one last line. With --quick no bar is judged.

    Raises:
        SystemExit: a figure could not be measured.
    """
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    for bar in bars:
        sign = ">=" if bar.at_least else "<="
        verdict = f"should be {sign} {bar.limit:g}: {'holds' if bar.holds else 'MISSED'}"
        print(f"{bar.name}: {bar.value:.4g}, {'too small a run to judge' if options.quick else verdict}")
    missing = [bar.name for bar in bars if math.isnan(bar.value)]
    if options.json:
        named = [{"name": bar.name, "value": bar.value} for bar in bars]
        judged = [{"limit": bar.limit, "holds": bar.holds} for bar in bars]
        whole = [one | other for one, other in zip(named, judged, strict=True)]
        print(json.dumps({"rows": list(rows), "bars": named if options.quick else whole}))
    if missing:
        raise SystemExit(f"not measured: {', '.join(missing)}")
