"""`bract partition`: write what each client of a trial deployment holds to files of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import signals
from .arguments import check_new, find_plan, read_asked


def partition(
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file, or the name of one that ships.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: data.clients=2")] = None,
) -> None:
    """Deal a plan's data out: client-000.npz and so on, test.npz for the server, and the plan as it was resolved.

    With secure aggregation each client also gets an identity, client-000.pem, and all of them the same roster.toml.
    """
    from ..simulations.shards import write_shards
    from ..simulations.study import make_study

    path = find_plan(plan)
    study = make_study(read_asked(path, settings or []), path.name)
    check_new(out, "choose another --out: what a device or a run has in there is not written over")
    signals.advise_to_delete(out)
    count = write_shards(study, out)
    print(f"{count} clients and the test records are in {out}")
