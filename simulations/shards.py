"""Writes a population to one file per client, for the devices of a trial deployment."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from ..privacy.errors import StorageError
from ..privacy.npz import MARK
from ..privacy.secagg.identity import new_identity, public_text, write_identity
from ..privacy.storage import replace_file, storage
from .population import make_population
from .study import Study


def write_shards(study: Study, folder: Path) -> int:
    """Write client-000.npz ..., test.npz and plan.toml to the folder; return the number of clients.

    With secure aggregation, also write each client's identity, client-000.pem ..., and the roster of all identities.
    Only their owner can read the files with records or keys.

    Raises:
        DataError: as `make_population`.
        StorageError: a file cannot be written.
    """
    try:
        return _write(study, folder)
    except StorageError as fault:
        raise StorageError(fault.what, f"free some space, delete {folder}, then run it again") from fault


def _write(study: Study, folder: Path) -> int:
    population = make_population(study, torch.device("cpu"))
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(population.clients):
        records = population.client(number)
        content = _npz(records.features.numpy(), records.labels.numpy(), study.data.transforms)
        replace_file(folder / f"client-{number:03d}.npz", content, private=True)
    tested = _npz(population.test.features, population.test.labels, study.data.transforms)
    replace_file(folder / "test.npz", tested, private=True)
    replace_file(folder / "plan.toml", study.offered().encode())
    if study.secure:
        _write_identities(folder, population.clients)
    return population.clients


def _write_identities(folder: Path, clients: int) -> None:
    lines = ["[devices]"]
    for number in range(clients):
        identity, path = new_identity(), folder / f"client-{number:03d}.pem"
        with storage(path):
            path.unlink(missing_ok=True)
            write_identity(path, identity)
        lines.append(f'client-{number:03d} = "{public_text(identity.public)}"')
    replace_file(folder / "roster.toml", ("\n".join(lines) + "\n").encode())


def _npz(features: np.ndarray, labels: np.ndarray, transforms: str | None) -> bytes:
    """Return an .npz file of records; a mark says that they went through the plan's transforms, if the plan has
    any."""
    buffer, arrays = io.BytesIO(), {"x": features, "y": labels}
    np.savez_compressed(buffer, **(arrays if transforms is None else arrays | {MARK: np.array(transforms)}))  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
