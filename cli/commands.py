"""The subcommands of `bract`."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from .budget import budget
from .compare import compare
from .evaluate import evaluate
from .export import export
from .ledger import ledger
from .listing import listing
from .new import new
from .partition import partition
from .predict import predict
from .simulate import simulate
from .sweep import sweep
from .terms import terms

app = typer.Typer(
    no_args_is_help=True,
    help="Federated learning under a stated (epsilon, delta).",
)
app.command()(new)
app.command()(simulate)
app.command()(sweep)
app.command()(budget)
app.command()(predict)
app.command()(evaluate)
app.command()(compare)
app.command(name="list")(listing)
app.command()(export)
app.command()(partition)
app.add_typer(ledger, name="ledger")
app.add_typer(terms, name="terms")


def _version(asked: bool) -> None:
    if asked:
        print(f"bract {import_module('bract').__version__}")
        raise typer.Exit


@app.callback()
def bract(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train one model on the data of many owners, under a stated (epsilon, delta)."""
