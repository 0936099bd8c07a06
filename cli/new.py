"""`bract new`: look at data and write a complete plan for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..privacy.errors import PlanError


def new(
    data: Annotated[
        str, typer.Argument(help="A .csv, .parquet or .npz file, a folder of pictures, or a data set's name.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The plan to write; by default the data's name.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    client: Annotated[str | None, typer.Option(help="The column that says whose record it is.")] = None,
    epsilon: Annotated[float, typer.Option(help="The budget.")] = 8.0,
    noise: Annotated[
        Literal["central", "distributed"],
        typer.Option(help="central: the server is trusted with sums; distributed: nobody is."),
    ] = "central",
    public: Annotated[
        bool, typer.Option("--public", help="Compute no mean, deviation or median from the data.")
    ] = False,
) -> None:
    """Look at data and write a complete, commented plan for them, which `bract simulate` runs.

    Example: bract new heart.csv --client hospital; bract simulate heart.toml
    """
    from ..privacy.storage import write_new
    from ..simulations.new.propose import propose
    from ..simulations.new.write import forecast, to_toml

    plan = out or Path(f"{Path(data).stem or 'data'}.toml")
    if plan.exists():
        raise PlanError(f"{plan} is there already", "give another name with -o; nothing was written")
    found = propose(data, plan, label, client, epsilon, noise, public)
    for notice in found.notices:
        print(f"notice: {notice}", file=sys.stderr)
    try:
        write_new(plan, to_toml(found, Path(data).name).encode())
    except FileExistsError:
        raise PlanError(f"{plan} is there already", "give another name with -o; nothing was written") from None
    print(f"{plan}: {found.study.model.name}, {forecast(found)}\nrun it: bract simulate {plan}")
