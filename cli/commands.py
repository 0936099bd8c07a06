"""The subcommands of `bract`."""

from __future__ import annotations

import typer

from .budget import budget
from .ledger import ledger
from .partition import partition
from .simulate import simulate
from .sweep import sweep
from .terms import terms

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Federated learning under a stated (epsilon, delta)."
)
app.command()(simulate)
app.command()(sweep)
app.command()(budget)
app.command()(partition)
app.add_typer(ledger, name="ledger")
app.add_typer(terms, name="terms")


@app.callback()
def bract() -> None:
    """Train one model on the data of many owners, under a stated (epsilon, delta)."""
