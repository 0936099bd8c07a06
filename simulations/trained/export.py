"""Exports a trained model as one file that runs without bract: by torch.export, or as ONNX."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ...privacy import PlanError, StateError
from ...privacy.storage import storage
from .names import class_names
from .run import Trained

Kind = Literal["torch", "onnx"]
SUFFIXES: dict[Kind, str] = {"torch": ".pt2", "onnx": ".onnx"}
BATCHES = (1, 2, 5)
"""The numbers of records with which an exported file is compared with the model."""

CLOSE = 1e-4
"""The largest difference between the two, relative to the largest output."""

TRACED = 3
"""The number of records in the example that an export traces."""


class Predictor(nn.Module):
    """The network from features to what `bract predict` answers: probabilities for classes, else its outputs."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.network = trained.network
        self.likely = trained.learns.name in ("classification", "next token")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return probabilities [records, (steps,) classes], or outputs [records, ...]."""
        outputs = self.network(features)
        return outputs.softmax(-1) if self.likely else outputs


def export(trained: Trained, out: Path, kind: Kind) -> None:
    """Write the model to a new file, with its classes' names and plan as metadata.

    The file is loaded again and compared with the model before it gets its name.

    Raises:
        PlanError: the file exists or has another suffix, a package is missing, or the network cannot be exported.
        StateError: the exported file does not agree with the model.
        StorageError: the file cannot be written.
    """
    _check_out(out, kind)
    if trained.learns.name == "generation":
        raise PlanError(f"{trained.plan.model.name} predicts nothing for a record", "export a network that predicts")
    answer, facts = Predictor(trained).cpu().eval(), json.dumps(_facts(trained))
    with storage(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as place:
        draft = Path(place) / out.name
        try:
            load = _WRITE[kind](answer, _example(trained, TRACED), draft, facts)
        except ModuleNotFoundError as fault:
            hint = "type in the checkout of bract: pip install '.[export]'"
            raise PlanError(f"the package {fault.name} is not installed", hint) from None
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as fault:
            what = f"the network {trained.plan.model.name} cannot be exported by {kind} ({type(fault).__name__})"
            raise PlanError(what, "try the other of --torch and --onnx") from fault
        _check(answer, load, trained)
        os.link(draft, out)  # fails if the file has appeared meanwhile


def _check_out(out: Path, kind: Kind) -> None:
    if out.suffix != SUFFIXES[kind]:
        raise PlanError(
            f"--{kind} writes a {SUFFIXES[kind]} file, not {out.name}", f"name it {out.stem}{SUFFIXES[kind]}"
        )
    if out.exists():
        raise PlanError(f"{out} exists", "name a file that does not exist yet")
    if not out.parent.is_dir():
        raise PlanError(f"there is no folder {out.parent}", "make it first, or name another")


def _facts(trained: Trained) -> dict[str, Any]:
    plan = trained.plan
    return {
        "task": trained.learns.name,
        "shape": list(plan.data.shape),
        "classes": list(class_names(plan)),
        "plan": plan.public(),
        "round": trained.round,
    }


def _example(trained: Trained, rows: int) -> torch.Tensor:
    plan = trained.plan
    return trained.learns.example(plan.data.shape, plan.data.classes, rows)[0]


Predict = Callable[[torch.Tensor], np.ndarray]


def _by_torch(answer: nn.Module, example: torch.Tensor, path: Path, facts: str) -> Predict:
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    with _quiet():
        program = torch.export.export(answer, (example,), dynamic_shapes=sizes)
        torch.export.save(program, path, extra_files={"bract.json": facts})
        again = torch.export.load(path).module()
    return lambda features: again(features).detach().numpy()


def _by_onnx(answer: nn.Module, example: torch.Tensor, path: Path, facts: str) -> Predict:
    import onnx  # pyright: ignore[reportMissingImports]
    import onnxruntime  # pyright: ignore[reportMissingImports]
    import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports]  (torch needs it)

    with _quiet():
        program = torch.onnx.export(
            answer,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["features"],
            output_names=["answer"],
            verbose=False,
        )
        if program is None:
            raise RuntimeError("nothing was exported")
        program.save(path, external_data=False)
    model = onnx.load(path)
    model.metadata_props.add(key="bract", value=facts)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda features: np.asarray(session.run(None, {name: features.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings and log lines about its own parts from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


_WRITE: dict[Kind, Callable[[nn.Module, torch.Tensor, Path, str], Predict]] = {"torch": _by_torch, "onnx": _by_onnx}


def _check(answer: nn.Module, run: Predict, trained: Trained) -> None:
    """Compare the exported file with the model, with several numbers of records.

    Raises:
        StateError: they differ.
    """
    for rows in BATCHES:
        features = _example(trained, rows)
        with torch.inference_mode():
            wanted = answer(features).numpy()
        found = run(features)
        apart = np.inf if found.shape != wanted.shape else np.abs(found - wanted).max()
        if not apart <= CLOSE * max(1.0, float(np.abs(wanted).max())):
            what = f"the exported file does not agree with the model over {rows} records"
            raise StateError(what, "nothing was kept; try the other of --torch and --onnx, and report this")
