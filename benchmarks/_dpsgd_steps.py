"""One training step of a network in each way: torch's own without privacy, bract's, and those of Opacus."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable

import numpy as np
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bract.client.engines import make_engine
from bract.client.records import Records
from bract.models import build
from bract.privacy import Keystream
from bract.privacy.noise import gaussian

SHAPE, CLASSES = (1, 28, 28), 10
CLIP, NOISE, RATE = 1.0, 1.0, 0.05
GRID = 2.0**-20
MODES = ("hooks", "functorch", "ew", "ghost")

Step = Callable[[], object]


def batch(count: int) -> Records:
    """Return random images."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(count, *SHAPE, generator=generator)
    return Records(features, torch.randint(0, CLASSES, (count,), generator=generator))


def plain(name: str, records: Records) -> Step:
    """Return torch's step as users write it, without privacy."""
    model, loss = build(name, SHAPE, CLASSES, seed=0), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        loss(model(records.features), records.labels).backward()
        optimizer.step()

    return step


def noise_of(name: str) -> Callable[[], np.ndarray]:
    """Return a function to a step's noise in steps of the grid, from a fresh cipher key."""
    count = sum(p.numel() for p in build(name, SHAPE, CLASSES).parameters())
    return lambda: gaussian(NOISE * CLIP / GRID, count, Keystream(secrets.token_bytes(32)))


def bract(name: str, records: Records) -> Step:
    """Return our step: clip, noise from a cipher's keystream, update. Rows go by the batch size, as in a plan."""
    engine = make_engine(build(name, SHAPE, CLASSES, seed=0), CLIP, rows=32 if len(records) <= 32 else 64)
    noise = noise_of(name)

    parameters = list(engine.model.parameters())

    @torch.no_grad()
    def step() -> None:
        total = engine.clipped_sum(records)
        total += noise() * GRID
        parts = torch.from_numpy(total.astype(np.float32)).split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.sub_(part.view_as(parameter), alpha=RATE / len(records))

    return step


def opacus(mode: str, name: str, records: Records) -> Step:
    """Return Opacus' step of a grad sample mode, with its usual noise from torch's generator."""
    model = build(name, SHAPE, CLASSES, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loader = DataLoader(TensorDataset(records.features, records.labels), batch_size=len(records))
    loss: Callable[..., torch.Tensor] = nn.CrossEntropyLoss()
    options = {"noise_multiplier": NOISE, "max_grad_norm": CLIP, "poisson_sampling": False, "grad_sample_mode": mode}
    made = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader, criterion=loss, **options
    )
    model, optimizer = made[:2]
    loss = made[2] if mode == "ghost" else loss

    def step() -> None:
        optimizer.zero_grad()
        loss(model(records.features), records.labels).backward()
        optimizer.step()

    return step


def make_step(method: str, name: str, count: int) -> Step:
    """Return a step of "plain", "bract" or an Opacus mode, tried once."""
    warnings.simplefilter("ignore")  # Opacus' of its generator and of hooks
    records = batch(count)
    makers: dict[str, Callable[[str, Records], Step]] = {"plain": plain, "bract": bract}
    step = makers[method](name, records) if method in makers else opacus(method, name, records)
    step()
    return step
