"""The file of the trained model, in safetensors format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from ..models import build, load_flat
from ..privacy import Plan
from ..privacy.storage import replace_file
from .round_log import Metrics
from .state import ServerState, read_checkpoint
from .training import TrainingRun

FILE = "model.safetensors"


def write_model(path: Path, plan: Plan, state: ServerState) -> None:
    """Write the network's tensors by their torch names, with the plan as metadata, in safetensors format.

    Raises:
        StorageError: the file cannot be written.
    """
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, state.model)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    facts = json.dumps({"plan": plan.public(), "round": state.round})
    replace_file(path, save(tensors, metadata={"bract": facts}))


def write_released(training: TrainingRun) -> None:
    """Write the model of the checkpoint of a training that ended with an error, and report it to the observer.

    Raises:
        StorageError: the file cannot be written.
    """
    state = read_checkpoint(training.checkpoint)
    if state is None or state.round == sum(record.lost for record in Metrics(training.metrics, state.round).records):
        return
    write_model(training.folder / FILE, training.plan, state)
    training.observer.said(f"the run ends with a fault; the model of round {state.round} is in {training.folder}")


def load_model(path: Path, plan: Plan) -> torch.nn.Module:
    """Return the network in a file that `write_model` wrote."""
    from safetensors.torch import load_file

    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    model.load_state_dict(load_file(path))
    return model
