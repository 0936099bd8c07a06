"""`bract partition`: write each client's records to a file of its own, to try a deployment with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def partition(
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: data.clients=2")] = None,
) -> None:
    """Deal a plan's data out: client-000.npz and so on, test.npz for the server, and the plan as it was resolved."""
    from ..privacy import override, read_tables
    from ..simulations.shards import write_shards
    from ..simulations.study import make_study

    study = make_study(override(read_tables(plan), settings or []), plan.name)
    count = write_shards(study, out)
    print(f"{count} clients and the test records are in {out}")
