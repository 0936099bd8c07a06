"""A population as files, one a client: what real devices of a trial deployment read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from ..privacy.files import replace_file, storage
from .population import make_population
from .study import Study


def write_shards(study: Study, folder: Path) -> int:
    """Write client-000.npz ..., test.npz and plan.toml to the folder; return the number of clients.

    Raises:
        DataError: as `make_population`.
        StorageError: a file cannot be written.
    """
    population = make_population(study, torch.device("cpu"))
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(population.clients):
        records = population.client(number)
        replace_file(folder / f"client-{number:03d}.npz", _npz(records.features.numpy(), records.labels.numpy()))
    replace_file(folder / "test.npz", _npz(population.test.features, population.test.labels))
    replace_file(folder / "plan.toml", study.offered().encode())
    return population.clients


def _npz(features: np.ndarray, labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=features, y=labels)
    return buffer.getvalue()
