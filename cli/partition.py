"""`bract partition`: write one file of records for each client of a trial deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import signals
from .arguments import check_new, find_plan, read_asked


def partition(
    plan: Annotated[Path, typer.Argument(help="A plan: a TOML file, or the name of a packaged plan.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: data.clients=2")] = None,
) -> None:
    """Split a plan's data into client-000.npz, ..., and test.npz for the server; write the resolved plan.

    With secure aggregation, each client also gets an identity, client-000.pem, and all clients share roster.toml.
    """
    from ..simulations.shards import write_shards
    from ..simulations.study import make_study

    path = find_plan(plan)
    study = make_study(read_asked(path, settings or []), path.name)
    check_new(out, "choose another --out: existing files are never overwritten")
    signals.advise_to_delete(out)
    count = write_shards(study, out)
    print(f"{count} clients and the test records are in {out}")
