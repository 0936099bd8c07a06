"""The trained model as a file others can load."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from ..models import build, load_flat
from ..privacy import Plan
from ..privacy.storage import replace_file
from .state import ServerState


def write_model(path: Path, plan: Plan, state: ServerState) -> None:
    """Write the network's tensors by their torch names, with the plan as metadata, in safetensors format.

    Raises:
        StorageError: it cannot be written.
    """
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, state.model)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    facts = json.dumps({"plan": plan.public(), "round": state.round})
    replace_file(path, save(tensors, metadata={"bract": facts}))


def load_model(path: Path, plan: Plan) -> torch.nn.Module:
    """Return the network in a file that `write_model` wrote."""
    from safetensors.torch import load_file

    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    model.load_state_dict(load_file(path))
    return model
