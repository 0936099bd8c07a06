"""The layers that have a rule, collected from the files of this folder."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from torch import nn

from .base import LayerRule


def find_rules() -> dict[type[nn.Module], type[LayerRule]]:
    """Return each class of layer with its rule, from the rules that the modules of this folder define."""
    rules = dict[type[nn.Module], type[LayerRule]]()
    for module in pkgutil.iter_modules(import_module(f"{__package__}").__path__, f"{__package__}."):
        if module.name != __name__:
            for rule in vars(import_module(module.name)).values():
                if isinstance(rule, type) and issubclass(rule, LayerRule) and rule.__module__ == module.name:
                    rules |= dict.fromkeys(rule.kinds, rule)
    return rules


RULES: Mapping[type[nn.Module], type[LayerRule]] = find_rules()
"""Each class of layer with its rule. Subclasses are not covered, because they may have another forward."""
