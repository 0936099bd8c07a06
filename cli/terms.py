"""`bract terms`: write a device's terms, and check a plan against them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

terms = typer.Typer(help="Write a device's terms, and check a plan against them.", no_args_is_help=True)


@terms.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("terms.toml")) -> None:
    """Write a file of safe terms, each with an explanation. A device without terms answers no request."""
    from ..client.terms import write_terms

    write_terms(path)
    print(f"wrote {path}: read it, change what you like, and give its path to the node as the setting terms")


@terms.command()
def check(
    path: Annotated[Path, typer.Argument(help="The file of terms.")],
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file.")],
) -> None:
    """Say whether a device with these terms and an unspent budget takes part in a plan."""
    from ..client.terms import Refused, read_terms
    from ..models import count_parameters
    from ..privacy import PlanError, read_tables
    from ..privacy.accept import accept_plan_file

    accepted, name = read_terms(path), read_tables(plan).get("model", {}).get("name")
    try:
        if isinstance(name, str):
            accepted.check_network(name)  # before the network is looked up, which may run its module
        accepted.check(accept_plan_file(plan, count_parameters))
    except Refused as fault:
        raise PlanError(f"{path} refuses {plan}: {fault}", "change the plan, or the terms if you mean to") from None
    print(f"{path} accepts {plan}")
