"""`bract terms`: write the terms of a device, and try a plan on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

terms = typer.Typer(help="Write the terms of a device, and try a plan on them.", no_args_is_help=True)


@terms.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("terms.toml")) -> None:
    """Write a file of safe terms, each with a word on what it means. A device without terms answers nothing."""
    from ..client.terms import write_terms

    write_terms(path)
    print(f"{path} is written: read it, change what you like, and give it to the node as its terms setting")


@terms.command()
def check(
    path: Annotated[Path, typer.Argument(help="The file of terms.")],
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file.")],
) -> None:
    """Say whether a device with these terms, and nothing spent yet, takes part in a plan."""
    from ..client.terms import Refused, read_terms
    from ..models import count_parameters
    from ..privacy import PlanError
    from ..privacy.plan.toml import read_plan_file

    accepted, offered = read_terms(path), read_plan_file(plan, count_parameters)
    try:
        accepted.check(offered)
    except Refused as fault:
        raise PlanError(f"{path} refuses {plan}: {fault}", "change the plan, or the terms if you mean to") from None
    print(f"{path} accepts {plan}")
