"""One backward pass through hooked layers: what it captures, and that the network is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client.clipping.errors import ClippingError
from bract.client.clipping.hooks import HookedNetwork, losses_of, trained_layers
from bract.models.objectives import cross_entropy

X, Y = torch.linspace(-1.0, 1.0, 12).view(3, 4), torch.tensor([0, 1, 2])


class Overwriting(nn.Module):
    """A network that changes a layer's inputs after it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = x * 1.0
        return self.layer(inputs) + inputs.mul_(2.0)[:, :3]


def test_inputs_changed_in_place_after_a_layer_are_refused() -> None:
    model = Overwriting()
    with HookedNetwork(model) as hooked, pytest.raises(ClippingError, match="changed in place"):
        hooked.per_example_gradients(cross_entropy, torch.randn(3, 4), torch.zeros(3, dtype=torch.int64), 3)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_layers_are_trained_by_parameters_of_their_own() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 3).requires_grad_(False))
    assert list(trained_layers(model)) == ["0.0"]


def test_no_weight_gradient_is_made_and_none_is_kept() -> None:
    model = network()
    with HookedNetwork(model) as hooked:
        layers = hooked.per_example_gradients(cross_entropy, X, Y, 3)
        assert [len(layer.squared_norms) for layer in layers] == [3, 3]
        assert all(p.grad is None for p in model.parameters())
    assert all(rule.gradients == [] for rule in hooked._rules.values())


def test_blanks_after_the_first_records_have_no_gradient() -> None:
    with HookedNetwork(network()) as hooked:
        layers = hooked.per_example_gradients(cross_entropy, X, Y, 2)
    assert all(bool((layer.squared_norms > 0).tolist() == [True, True, False]) for layer in layers)


def test_an_exception_leaves_every_forward_as_it_was() -> None:
    model, replaced = network(), list[bool]()

    def fail_within() -> None:
        with HookedNetwork(model):
            replaced.extend("forward" in vars(layer) for layer in trained_layers(model).values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert replaced == [True, True]
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_a_loss_that_is_not_one_number_a_record_is_refused() -> None:
    with pytest.raises(ClippingError, match="one loss for each record"):
        losses_of(network(), lambda outputs, labels: cross_entropy(outputs, labels).mean(), X, Y)
