"""The server's state between two rounds, and its checkpoint on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..privacy import StateError
from ..privacy.mechanisms.correlation import Correlation
from ..privacy.storage import replace_file, storage

PARAMETERS, MODEL = "parameters", "model"
OPTIMIZER = "optimizer."
WEIGHTS, NOISE_PREFIX = "noise.weights", "noise."
HINT = "restore it from a copy, or start again in another folder; the ledger beside it still counts what was spent"


@dataclass(frozen=True, repr=False)
class ServerState:
    """The state after `round` rounds: parameters, float32 [parameters], and the optimizer's own tensors.

    `noise` is secret, the rest is public. It is present if a plan correlates noise between rounds: it holds the noise
    of earlier rounds, part of which the next round subtracts. With it, the noise could be removed from releases.
    `block` is the head of the ledger at the last restart of this noise.

    `model` is the averaged parameters, float32 [parameters], which are tested and saved. `ledger_head` is the head of
    the ledger after the last round's charge, and `seconds` the training time so far. `scale` is the scale of the next
    round's clip norm. Randomness needs no state: keys come from the operating system, or from the seed and the round.
    """

    round: int
    parameters: NDArray[np.float32]
    model: NDArray[np.float32]
    optimizer: Mapping[str, NDArray[np.float32]]
    ledger_head: str
    plan_digest: str
    seconds: float = 0.0
    scale: float = 1.0
    noise: Correlation | None = None
    block: str = ""


def write_checkpoint(path: Path, state: ServerState) -> None:
    """Replace the checkpoint atomically: after a crash, the old or the new one is on disk.

    A checkpoint with noise is as secret as the sums that the server saw, so only its owner can read it.

    Raises:
        StorageError: the checkpoint cannot be written; the old one is intact.
    """
    tensors = {PARAMETERS: state.parameters, MODEL: state.model}
    tensors |= {OPTIMIZER + name: value for name, value in state.optimizer.items()}
    tensors |= {} if state.noise is None else _noise_tensors(state.noise)
    facts = {
        "round": state.round,
        "ledger_head": state.ledger_head,
        "plan_digest": state.plan_digest,
        "seconds": state.seconds,
        "scale": state.scale,
        "block": state.block,
    }
    body = save(tensors, metadata={"bract": json.dumps(facts)})
    replace_file(path, hashlib.sha256(body).digest() + body, private=state.noise is not None)


def _noise_tensors(noise: Correlation) -> dict[str, NDArray[np.int64]]:
    return {WEIGHTS: noise.weights} | {f"{NOISE_PREFIX}{number}": vector for number, vector in enumerate(noise.past)}


def read_checkpoint(path: Path) -> ServerState | None:
    """Return the state in a checkpoint, or None if the file does not exist.

    Raises:
        StateError: the file is damaged.
    """
    if not path.exists():
        return None
    with storage(path):
        content = path.read_bytes()
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        raise StateError(f"the checkpoint {path} is damaged: its checksum does not match", HINT)
    try:
        return _state(body)
    except (SafetensorError, KeyError, ValueError, TypeError) as fault:
        raise StateError(f"the checkpoint {path} is not one of this version", HINT) from fault


def _state(body: bytes) -> ServerState:
    length = int.from_bytes(body[:8], "little")
    facts = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["bract"])
    tensors = load(body)
    optimizer = {n.removeprefix(OPTIMIZER): t for n, t in tensors.items() if n.startswith(OPTIMIZER)}
    noise = _noise(tensors)
    return ServerState(
        parameters=tensors[PARAMETERS], model=tensors[MODEL], optimizer=optimizer, noise=noise, **facts
    )


def _noise(tensors: Mapping[str, NDArray[np.int64]]) -> Correlation | None:
    """Return the stored noise with its weights, because another version may compute other weights for the same
    plan."""
    if WEIGHTS not in tensors:
        return None
    count = sum(name.startswith(NOISE_PREFIX) for name in tensors) - 1
    return Correlation(tensors[WEIGHTS], tuple(tensors[f"{NOISE_PREFIX}{number}"] for number in range(count)))
