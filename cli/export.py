"""`bract export`: write a trained model as a file that runs without bract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or its model.safetensors.")],
    onnx: Annotated[Path | None, typer.Option(help="A new .onnx file; needs the extra `export`.")] = None,
    torch: Annotated[Path | None, typer.Option(help="A new .pt2 file, for torch.export.load.")] = None,
) -> None:
    """Write a model as ONNX or by torch.export, and check that the file agrees with the model before it is kept.

    The file takes the features of records, as one array, and gives what `bract predict` gives: probabilities, or
    numbers.

    Example: bract export runs/mine-001 --onnx model.onnx
    """
    from ..simulations.trained.export import export as export_model
    from ..simulations.trained.run import read_trained

    asked = [(kind, out) for kind, out in (("onnx", onnx), ("torch", torch)) if out is not None]
    if not asked:
        raise PlanError("export needs a file to write", "add --torch model.pt2, or --onnx model.onnx")
    trained = read_trained(run)
    for kind, out in asked:
        export_model(trained, out, kind)  # pyright: ignore[reportArgumentType]
        print(f"the model is in {out}; it agrees with the run's")
