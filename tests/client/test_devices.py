"""The clipped sum on every kind of processor that there is here: the CPU, and a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bract.client.clipping.engine import make_engine
from bract.client.records import Records
from bract.models import build, objective_of, read_flat

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NETWORKS = [
    ("attention", (6, 5), 4),
    ("attention", (6,), 9),
    ("cnn", (1, 14, 14), 4),
    ("cnn-1d", (16, 5), 4),
    ("scattering-1d", (16, 5), 4),
    ("cnn-large", (1, 18, 18), 4),
    ("gru-lm", (6,), 9),
    ("lstm", (6, 5), 4),
    ("mlp", (1, 6, 6), 4),
    ("ngram", (6,), 9),
    ("ngram-client", (6,), 9),
    ("rnn", (6, 5), 4),
]
COUNT = 37


def records(shape: tuple[int, ...], classes: int) -> Records:
    random = torch.Generator().manual_seed(1)
    if len(shape) == 1:
        tokens = torch.randint(0, classes, (COUNT, shape[0] + 1), generator=random)
        return Records(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    features = torch.randn(COUNT, *shape, generator=random)
    return Records(features, torch.randint(0, classes, (COUNT,), generator=random))


def by_record(model: nn.Module, loss, batch: Records, clip_norm: float) -> np.ndarray:
    """The sum of the clipped gradients, one record at a time, in float64."""
    total = np.zeros(len(read_flat(model)))
    for x, y in zip(batch.features.split(1), batch.labels.split(1), strict=True):
        inputs = x.double() if x.is_floating_point() else x
        gradients = torch.autograd.grad(loss(model(inputs), y).sum(), list(model.parameters()))
        vector = torch.cat([g.flatten() for g in gradients]).numpy()
        total += vector * min(1.0, clip_norm / np.linalg.norm(vector))
    return total


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "shape", "classes"), NETWORKS, ids=lambda value: str(value))
@pytest.mark.parametrize("rows", [32, 64])
def test_the_sum_is_that_of_a_loop_over_records(
    device: str, name: str, shape: tuple[int, ...], classes: int, rows: int
) -> None:
    batch, loss = records(shape, classes), objective_of(name, shape).loss
    expected = by_record(build(name, shape, classes, seed=0).double(), loss, batch, 0.5)
    engine = make_engine(build(name, shape, classes, seed=0).to(device), 0.5, loss, rows=rows)
    found = engine.clipped_sum(Records(batch.features.to(device), batch.labels.to(device)))
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "shape", "classes"), NETWORKS, ids=lambda value: str(value))
def test_narrow_passes_come_near_it(device: str, name: str, shape: tuple[int, ...], classes: int) -> None:
    batch, loss = records(shape, classes), objective_of(name, shape).loss
    expected = by_record(build(name, shape, classes, seed=0).double(), loss, batch, 0.5)
    engine = make_engine(build(name, shape, classes, seed=0).to(device), 0.5, loss, precision="bfloat16")
    found = engine.clipped_sum(Records(batch.features.to(device), batch.labels.to(device)))
    assert np.linalg.norm(found - expected) <= 0.1 * np.linalg.norm(expected)
