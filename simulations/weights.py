"""The file of weights that a simulation starts from: read once, and known by its digest from then on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..models import keep_weights
from ..privacy import PlanError
from ..privacy.plan.toml import Tables


def with_weights(tables: Tables) -> Tables:
    """Return the tables with the digest of the file `model.weights`, if they name one; the file is read.

    A relative path starts from `simulation.folder`.

    Raises:
        PlanError: the file cannot be read, is no .safetensors file, or has another digest than the tables give.
    """
    model: Any = tables.get("model", {})
    named = model.get("weights") if isinstance(model, dict) else None
    if not isinstance(named, str):
        return tables
    simulation: Any = tables.get("simulation", {})
    folder = simulation.get("folder") if isinstance(simulation, dict) else None
    path = Path(folder if isinstance(folder, str) else "") / os.path.expanduser(named)
    digest = read_weights(path)
    if model.get("weights_digest", digest) != digest:
        what = f"the weights {path} are not the ones whose digest the plan gives"
        raise PlanError(what, f'restore the file, or set model.weights_digest = "{digest}"')
    return tables | {"model": model | {"weights_digest": digest}}


def read_weights(path: Path) -> str:
    """Read a file of weights, and return its digest.

    Raises:
        PlanError: the file cannot be read, or is no .safetensors file.
    """
    hint = "give the path of a .safetensors file, such as the model.safetensors of a run"
    try:
        return keep_weights(path)
    except OSError as fault:
        raise PlanError(f"cannot read the weights {path}", hint) from fault
    except ValueError as fault:
        raise PlanError(str(fault), hint) from fault
