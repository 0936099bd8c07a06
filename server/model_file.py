"""The file of the trained model, in safetensors format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..models import build, load_flat
from ..privacy import Plan, StateError
from ..privacy.plan.toml import Tables
from ..privacy.storage import replace_file
from .model_card import MODEL_CARD_FILE, make_card
from .round_log import Metrics, RoundRecord
from .state import ServerState, read_checkpoint
from .training import TrainingRun

MODEL_FILE = "model.safetensors"


def write_model(path: Path, plan: Plan, state: ServerState) -> None:
    """Write the network's tensors by their torch names, with the plan as metadata, in safetensors format.

    Raises:
        StorageError: the file cannot be written.
    """
    model = build(plan.model.name, plan.data.shape, plan.data.classes, start=plan.model.kept_start)
    load_flat(model, state.model)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    facts = json.dumps({"plan": plan.public(), "round": state.round})
    replace_file(path, save(tensors, metadata={"bract": facts}))


def write_card(
    folder: Path,
    plan: Plan,
    rounds: int,
    epsilon: Mapping[str, float | None],
    records: Sequence[RoundRecord],
    cautions: Iterable[str] = (),
    guarantee: str | None = None,
) -> None:
    """Write the model's card beside the model; see `make_card`.

    Raises:
        StorageError: the file cannot be written.
    """
    figures = next((record.figures for record in reversed(records) if record.figures), {})
    replace_file(folder / MODEL_CARD_FILE, make_card(plan, rounds, epsilon, figures, cautions, guarantee).encode())


def write_released(training: TrainingRun) -> None:
    """Write the model of the checkpoint of a training that ended with an error, and report it to the observer.

    Raises:
        StorageError: the file cannot be written.
    """
    state = read_checkpoint(training.checkpoint)
    if state is None or state.round == sum(record.lost for record in Metrics(training.metrics, state.round).records):
        return
    write_model(training.folder / MODEL_FILE, training.plan, state)
    records = Metrics(training.metrics, state.round).records
    write_card(training.folder, training.plan, state.round, records[-1].epsilon if records else {}, records)
    training.observer.said(f"the run ends with a fault; the model of round {state.round} is in {training.folder}")


@dataclass(frozen=True, eq=False)
class ModelFile:
    """What a model's file holds: the public tables of its plan, the round it is from, and the tensors by name."""

    plan: Tables
    round: int
    tensors: dict[str, torch.Tensor]


def read_model(path: Path) -> ModelFile:
    """Return the content of a file that `write_model` wrote. No code in a file is run.

    Raises:
        StateError: the file is damaged, or bract did not write it.
    """
    hint = "give the folder of a run of bract, or its model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["bract"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
        return ModelFile(dict(facts["plan"]), int(facts["round"]), tensors)
    except KeyError as fault:
        raise StateError(f"{path} does not say which plan it was trained by", hint) from fault
    except (OSError, ValueError, TypeError, SafetensorError) as fault:
        raise StateError(f"{path} is damaged, or no model", hint) from fault


def load_model(path: Path, plan: Plan) -> torch.nn.Module:
    """Return the network in a file that `write_model` wrote."""
    model = empty_network(plan)
    model.load_state_dict(read_model(path).tensors)
    return model


def empty_network(plan: Plan) -> torch.nn.Module:
    """Return the plan's network for the tensors of its file: no other file is needed, whatever it started from.

    Raises:
        NoNetworkError, ValueError: as `build`.
    """
    start = plan.model.kept_start
    valueless = None if start is None else (None, *start[1:])
    return build(plan.model.name, plan.data.shape, plan.data.classes, start=valueless)
