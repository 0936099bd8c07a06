"""The choice of an engine: book-keeping where each layer has a rule, Opacus otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from by_autograd import looped_sum
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.engine import make_engine
from bract.client.clipping.errors import ClippingError
from bract.client.clipping.opacus import OpacusEngine
from bract.client.records import Records
from bract.models import NETWORKS, objective_of

RECORDS = Records(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 2)


class Scaled(nn.Module):
    """A layer of a kind that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.0, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


TEXT = ("gru-lm", "ngram", "ngram-client")
CASES = [(name, (6,) if name in TEXT else (1, 18, 18)) for name in NETWORKS] + [("attention", (6,))]
NOT_FOR_OPACUS = {"gru-lm", "lstm", "rnn"}


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_documented_network_can_be_trained_privately(
    made_for: Callable[..., tuple[nn.Module, torch.Tensor, torch.Tensor]], name: str, shape: tuple[int, ...]
) -> None:
    model, *pair = made_for(name, shape, 3)
    records, loss = Records(*pair), objective_of(name, shape).loss
    norms = [float(np.linalg.norm(looped_sum(model, one, 1e9, loss))) for one in records.chunks(1)]
    clip = float(np.median(norms))
    expected, engine = looped_sum(model, records, clip, loss), make_engine(copy.deepcopy(model), clip, loss)
    assert isinstance(engine, BookKeepingEngine)
    assert np.linalg.norm(engine.clipped_sum(records) - expected) <= 1e-5 * np.linalg.norm(expected)
    if name not in NOT_FOR_OPACUS:
        found = make_engine(model, clip, loss, "opacus").clipped_sum(records)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_opacus_can_be_asked_for_and_gives_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    found = make_engine(model, 0.3).clipped_sum(RECORDS)
    engine = make_engine(model, 0.3, engine="opacus")
    assert isinstance(engine, OpacusEngine)
    assert np.allclose(engine.clipped_sum(RECORDS), found, atol=1e-6)


def test_a_layer_without_a_rule_is_clipped_as_a_whole() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Scaled(), nn.Linear(4, 2))
    engine = make_engine(copy.deepcopy(model), 1e9)
    found = engine.clipped_sum(RECORDS)
    nn.functional.cross_entropy(model(RECORDS.features), RECORDS.labels, reduction="sum").backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert isinstance(engine, BookKeepingEngine)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_both_engines_take_another_loss() -> None:
    def error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - labels).square()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2))
    made = [make_engine(copy.deepcopy(model), 0.3, error, kind) for kind in ("auto", "opacus")]  # type: ignore[arg-type]
    sums = [engine.clipped_sum(RECORDS) for engine in made]
    assert np.allclose(*sums, atol=1e-6)
    assert np.linalg.norm(sums[0] - make_engine(model, 0.3).clipped_sum(RECORDS)) > 0.1


@pytest.mark.parametrize("engine", ["auto", "opacus"])
def test_a_network_that_neither_can_train_is_refused(engine: str) -> None:
    with pytest.raises(ClippingError, match="mixes the records of a batch"):
        make_engine(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 1.0, engine=engine)  # type: ignore[arg-type]


def test_what_opacus_gets_wrong_is_refused_under_opacus_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    assert isinstance(make_engine(model, 1.0), BookKeepingEngine)
    with pytest.raises(ClippingError, match="in place fails under Opacus"):
        make_engine(model, 1.0, engine="opacus")


class Idle(nn.Sequential):
    """A network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 2), nn.PReLU())
        self.idle = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return self[1](self[0](x))


class Scalar(Scaled):
    """A layer whose parameter is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, bias=False), nn.PReLU()),
        nn.Sequential(Scalar(), nn.Linear(4, 2)),
        Idle(),
        nn.Sequential(nn.Unflatten(1, (1, 4)), nn.GRU(4, 4), nn.PReLU()),
    ],
)
def test_what_opacus_fails_at_is_refused_before_the_first_record(model: nn.Module) -> None:
    with pytest.raises(ClippingError, match="Opacus cannot train"):
        make_engine(model, 1.0, engine="opacus").rehearse(RECORDS)


def test_what_opacus_fails_at_does_not_wait_for_a_record() -> None:
    for count in (0, 5):
        with pytest.raises(ClippingError, match="Opacus cannot train"):
            make_engine(Idle(), 1.0, engine="opacus").clipped_sum(RECORDS.select(np.arange(5) < count))
