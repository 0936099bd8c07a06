"""Networks that cannot be trained, told apart from their layers and shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.models import NETWORKS, Network, check_network, opacus_fault
from bract.simulations.sizes import NOT_FOR_OPACUS

SHAPES = {"gru-lm": (6,), "ngram": (6,), "ngram-client": (6,)}


class Scalar(nn.Module):
    """A layer whose parameter is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


class Idle(nn.Sequential):
    """A network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 3))
        self.idle = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return self[0](x)


class Flat(nn.Sequential):
    """A network whose outputs are one for all records."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return super().forward(x).mean(0, keepdim=True)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_documented_network_can_be_trained(name: str, classes: int) -> None:
    shape, classes = SHAPES.get(name, (1, 18, 18)), 1 if name == "linear" else classes
    check_network(name, shape, classes)
    if name in NOT_FOR_OPACUS:
        with pytest.raises(ValueError, match=f"Opacus cannot train {name}: the layer .* has no per-example gradient"):
            check_network(name, shape, classes, by_opacus=True)
    else:
        check_network(name, shape, classes, by_opacus=True)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, bias=False), nn.Linear(4, 3)), "LayerNorm.* no bias"),
        (lambda: nn.Sequential(Scalar(), nn.Linear(4, 3)), "is a scalar"),
        (Idle, "idle.weight is not used"),
    ],
)
def test_what_opacus_fails_at_is_known_before(
    monkeypatch: pytest.MonkeyPatch, make: type[nn.Module], why: str
) -> None:
    monkeypatch.setitem(NETWORKS, "made", Network("made", lambda shape, classes: make()))
    check_network("made", (4,), 3)
    with pytest.raises(ValueError, match=why):
        check_network("made", (4,), 3, by_opacus=True)


def test_a_layer_that_is_not_trained_does_not_matter() -> None:
    model = nn.Sequential(nn.LayerNorm(4, bias=False).requires_grad_(False), nn.GRU(4, 4).requires_grad_(False))
    assert opacus_fault(model) is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Linear(5, 3), "takes no records of shape \\[4\\]"),
        (lambda: Flat(nn.Linear(4, 3)), "takes no records of shape \\[4\\]"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, (3, 1))), "takes no records of shape"),
    ],
)
def test_a_network_that_does_not_fit_its_records_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: type[nn.Module], why: str
) -> None:
    monkeypatch.setitem(NETWORKS, "made", Network("made", lambda shape, classes: make()))
    with pytest.raises(ValueError, match=why):
        check_network("made", (4,), 3)
