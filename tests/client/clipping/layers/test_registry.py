"""A layer is added by one file in client/clipping/layers/, as the docstring of `LayerRule` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from by_autograd import check_layer, normal
from torch import nn

from bract.client.clipping import layers
from bract.client.clipping.layers import registry
from bract.client.clipping.layers.base import LayerRule

PRELU = '''"""The rule for nn.PReLU."""

import torch
from torch import nn

from bract.client.clipping.layers.base import ActivationRule, PerExampleGradients
from bract.client.clipping.layers.instantiated import InstantiatedGradients


class PReluRule(ActivationRule):
    kinds = (nn.PReLU,)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nn.functional.prelu(inputs, self.layer.weight.detach()), inputs.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        each = (activation.clamp(max=0.0) * output_gradient).flatten(1).sum(1, keepdim=True)
        return InstantiatedGradients([(self.layer.weight, each)])
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LayerRule]]:
    """The rule of a file that was put into the folder, known for one test."""
    (tmp_path / "prelu.py").write_text(PRELU)
    monkeypatch.setattr(layers, "__path__", [*layers.__path__, str(tmp_path)])
    rule = registry.find_rules()[nn.PReLU]
    monkeypatch.setitem(registry.RULES, nn.PReLU, rule)  # type: ignore[misc]
    yield rule
    del sys.modules[rule.__module__]


def test_a_file_in_the_folder_adds_a_layer(added: type[LayerRule]) -> None:
    check_layer(nn.Sequential(nn.Linear(4, 3), nn.PReLU()), normal((6, 4), 0))
    assert registry.RULES[nn.PReLU] is added


def test_without_its_file_a_layer_has_no_rule() -> None:
    assert nn.PReLU not in registry.RULES


def test_every_rule_found_is_a_rule_for_the_layers_it_names() -> None:
    assert len(registry.RULES) > 9
    for kind, rule in registry.RULES.items():
        assert issubclass(rule, LayerRule)
        assert issubclass(kind, nn.Module)
        assert kind in rule.kinds


def rules_below(kind: type[LayerRule]) -> Iterator[type[LayerRule]]:
    for rule in kind.__subclasses__():
        yield rule
        yield from rules_below(rule)


def test_no_layer_has_two_rules() -> None:
    kinds = [kind for rule in rules_below(LayerRule) for kind in rule.kinds if kind is not nn.PReLU]
    assert len(kinds) == len(set(kinds)) == len(registry.RULES)


def test_a_subclass_of_a_layer_has_no_rule() -> None:
    """It may do something else in its forward."""

    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    assert Doubled not in registry.RULES
