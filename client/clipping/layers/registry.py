"""The layers that have a rule: what the files of this folder define."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from torch import nn

from .base import LayerRule


def _rules() -> Iterator[type[LayerRule]]:
    """Yield the rules that modules of this folder define for kinds of layers."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if module.name != __name__:
            for found in vars(import_module(module.name)).values():
                if isinstance(found, type) and issubclass(found, LayerRule) and found.__module__ == module.name:
                    yield found


RULES: Mapping[type[nn.Module], type[LayerRule]] = {kind: rule for rule in _rules() for kind in rule.kinds}
"""Each kind of layer with its rule, by exact class: a subclass may do something else in its forward."""
