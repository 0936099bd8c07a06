"""How every benchmark speaks: a table for people, and with --json one last line for machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """A figure and the limit it is held to; `at_least` says on which side it must lie."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure keeps to its limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def arguments(about: str) -> argparse.ArgumentParser:
    """Return the parser that every script starts from."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print rows and bars as one last line of JSON")
    return parser


def show(rows: Sequence[Mapping[str, object]], bars: Sequence[Bar], as_json: bool) -> None:
    """Print the rows, the bars, and with `as_json` both as the last line."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    for bar in bars:
        sign = ">=" if bar.at_least else "<="
        print(f"{bar.name}: {bar.value:.4g}, should be {sign} {bar.limit:g}: {'holds' if bar.holds else 'MISSED'}")
    if as_json:
        judged = [{"name": b.name, "value": b.value, "limit": b.limit, "holds": b.holds} for b in bars]
        print(json.dumps({"rows": list(rows), "bars": judged}))
