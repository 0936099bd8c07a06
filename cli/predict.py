"""`bract predict`: let a trained model predict for a file of records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or its model.safetensors.")],
    file: Annotated[Path, typer.Argument(help="Records: .npz, .csv, .parquet, a picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new .csv file; default: the terminal.")] = None,
) -> None:
    """Predict for each record of a file: the class with its probabilities, a number, or the next token.

    A column or array of labels in the file is not read.

    Example: bract predict runs/mine-001 new.csv -o predicted.csv
    """
    from ..privacy.storage import write_new
    from ..simulations.trained.predict import predict as predict_with
    from ..simulations.trained.records import notice_of_order, read_features
    from ..simulations.trained.run import read_trained

    if out and out.suffix.lower() != ".csv":
        raise PlanError(f"--out writes a .csv file, not {out.name}", f"name it {out.stem}.csv")
    if out and out.exists():
        raise PlanError(f"{out} exists", "name a file that does not exist yet")
    trained = read_trained(run)
    features = read_features(file, trained.plan)
    if notice := notice_of_order(file, trained.plan):
        print(f"notice: {notice}", file=sys.stderr)
    found = predict_with(trained, features)
    if out is None:
        sys.stdout.write(found.to_csv())
        return
    write_new(out, found.to_csv().encode(), private=True)
    print(f"{len(found):,} predictions are in {out}")
