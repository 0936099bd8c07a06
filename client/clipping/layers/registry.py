"""The layers that have a rule: collected from the files of this folder, and registered for layers of one's own."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from torch import nn

from .base import LayerRule
from .whole import WholeRule


def find_rules() -> dict[type[nn.Module], type[LayerRule]]:
    """Return each class of layer with its rule, from the rules that the modules of this folder define."""
    rules = dict[type[nn.Module], type[LayerRule]]()
    for module in pkgutil.iter_modules(import_module(f"{__package__}").__path__, f"{__package__}."):
        if module.name != __name__:
            for rule in vars(import_module(module.name)).values():
                if isinstance(rule, type) and issubclass(rule, LayerRule) and rule.__module__ == module.name:
                    rules |= dict.fromkeys(rule.kinds, rule)
    return rules


RULES: dict[type[nn.Module], type[LayerRule]] = find_rules()
"""Each class of layer with its rule. Subclasses are not covered, because they may have another forward."""

SHIPPED = frozenset(RULES)


def register_rule(kind: type[nn.Module], rule: type[LayerRule] = WholeRule) -> None:
    """Give a class of layers of one's own a rule. By default it takes the layer, with all inside it, as a whole.

    Whenever an engine is made, the rule's gradients and norms are compared with a loop over single records, and the
    network is refused if they differ.

    Raises:
        TypeError: `kind` is no class of layers, or `rule` no class of rules.
        ValueError: bract has a rule for this class.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{kind!r} is no class of layers: give a subclass of torch.nn.Module")
    if not (isinstance(rule, type) and issubclass(rule, LayerRule)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{rule!r} is no rule: give a subclass of LayerRule")
    if kind in SHIPPED:
        raise ValueError(f"{kind.__name__} has a rule already: write a subclass of the layer, and register that")
    RULES[kind] = rule


def is_whole(layer: nn.Module) -> bool:
    """Return whether the layer's rule covers all layers inside it too."""
    return issubclass(RULES.get(type(layer), WholeRule), WholeRule)
