"""Networks whose records are not independent, which only a trial at the first batch finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.errors import ClippingError
from bract.client.records import Records
from bract.models.objectives import Loss, cross_entropy


class Network(nn.Module):
    """A layer, and something before it and after it that looks at a batch in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def after(self, y: torch.Tensor) -> torch.Tensor:
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.layer(self.before(x)).tanh())


class Summing(Network):
    """Features are added up over the records before, so that the first sees none."""

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(0)


class Remembering(Network):
    """A frozen recurrent layer takes records for steps."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.GRU(4, 4).requires_grad_(False)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x)[0]


class Rolled(Network):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.roll(1, 0)


class Counting(Network):
    """Records are weighed by their places."""

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.arange(1, len(x) + 1)[:, None]


class Attending(Network):
    """Attention over records instead of steps."""

    def after(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(y[None], y[None], y[None])[0]


class Normalised(Network):
    """Outputs have length one over records instead of over themselves."""

    def after(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(y.t(), dim=1).t()


class OnlyInTraining(Network):
    """The layer's weight is used behind its back, in training alone."""

    def after(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(y, self.layer.weight) if self.training else y


class Unsteady(Network):
    """Dropout by a function, as many write it."""

    def after(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(y, 0.5, self.training)


def share_of_labels(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs, labels) / (1 + labels.sum())


def records() -> Records:
    return Records(torch.randn(5, 4), torch.arange(5) % 3)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        *((made, cross_entropy) for made in (Summing, Remembering, Rolled, Counting, Attending, Normalised)),
        (Network, share_of_labels),
    ],
)
def test_records_that_are_not_independent_are_refused(model: type[Network], loss: Loss) -> None:
    with pytest.raises(ClippingError, match="mixes records"):
        BookKeepingEngine(model(), 1.0, loss).clipped_sum(records())


def test_a_network_is_checked_in_training_mode() -> None:
    with pytest.raises(ClippingError, match="rules of book-keeping do not give"):
        BookKeepingEngine(OnlyInTraining(), 1.0).clipped_sum(records())


@pytest.mark.parametrize("model", [Network(), Unsteady(), nn.Sequential(Network(), nn.Dropout(0.5), nn.Linear(4, 4))])
def test_independent_records_pass_with_dropout_too(model: nn.Module) -> None:
    assert BookKeepingEngine(model, 1.0).clipped_sum(records()).any()


@pytest.mark.parametrize("name", ["", "0", "0.0"])
def test_a_layer_whose_forward_was_replaced_is_refused(name: str) -> None:
    """And keeps the forward that it has."""
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    layer = model.get_submodule(name)
    layer.forward = lambda x: 2 * x
    with pytest.raises(ClippingError, match="has a forward of its own"):
        BookKeepingEngine(model, 1.0)
    assert "forward" in vars(layer)
