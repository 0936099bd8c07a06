"""`bract predict`: let a trained model predict for a file of records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or its model.safetensors.")],
    file: Annotated[
        Path, typer.Argument(help="Records: .npz, .csv, .parquet, a picture, a folder of pictures, or a .txt.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new .csv file; default: the terminal.")] = None,
    tokens: Annotated[
        int | None, typer.Option("--continue", min=1, help="Continue a .txt file by so many characters or words.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="With --continue: other seeds draw other texts.")
    ] = 0,
) -> None:
    """Predict for each record of a file: the class with its probabilities, a number, or the next token.

    A column or array of labels in the file is not read.

    Examples: bract predict runs/mine-001 new.csv -o predicted.csv
              bract predict runs/poem start.txt --continue 200
    """
    from ..privacy.storage import write_new
    from ..simulations.trained.continuation import continued
    from ..simulations.trained.predict import predict as predict_with
    from ..simulations.trained.records import notice_of_order, read_features
    from ..simulations.trained.run import read_trained

    if out and out.suffix.lower() != ".csv":
        raise PlanError(f"--out writes a .csv file, not {out.name}", f"name it {out.stem}.csv")
    if out and out.exists():
        raise PlanError(f"{out} exists", "name a file that does not exist yet")
    trained = read_trained(run)
    features = read_features(file, trained.plan)
    if tokens is not None:
        if file.suffix.lower() != ".txt" or out is not None:
            raise PlanError(
                "--continue takes a .txt file, and writes to the terminal only", "leave out -o, or --continue"
            )
        print(continued(trained, features, tokens, seed))
        return
    if notice := notice_of_order(file, trained.plan):
        print(f"notice: {notice}", file=sys.stderr)
    found = predict_with(trained, features)
    if out is None:
        sys.stdout.write(found.to_csv())
        return
    write_new(out, found.to_csv().encode(), private=True)
    print(f"{len(found):,} predictions are in {out}")
