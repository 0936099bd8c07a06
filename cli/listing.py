"""`bract list`: list what ships with bract, and the runs in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def listing(
    kind: Annotated[
        Literal["plans", "networks", "data", "loggers", "runs"] | None, typer.Argument(help="Default: all of them.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="The folder whose runs are listed.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """List plans, networks, data sets, loggers and runs, each by the name that other commands take.

    Example: bract list networks
    """
    from ..simulations.trained.listing import list_all

    found = list_all(folder, kind)
    if as_json:
        print(json.dumps(found))
        return
    for place, (name, entries) in enumerate(found.items()):
        print(f"{'' if place == 0 else chr(10)}{name}" + ("" if entries else f": none in {folder}"))
        width = max(map(len, entries), default=0)
        for entry, about in entries.items():
            print(f"  {entry.ljust(width)}  {about}".rstrip())
