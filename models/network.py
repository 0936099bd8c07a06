"""A network: how it is built, and what it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .objectives import CLASSIFICATION, Objective, Shape


@dataclass(frozen=True)
class Network:
    """A network that a plan can name.

    `build(shape, classes)` returns a new `nn.Module` for `classes` classes and for records of `shape`, the shape of
    one record; it raises a ValueError for a shape that it does not take. `objective` is what the network learns, or a
    function from the shape of one record to it. `refine(network, seed)` trains, in place and without data, what
    devices do not train.
    """

    name: str
    build: Callable[[Shape, int], nn.Module]
    objective: Objective | Callable[[Shape], Objective] = CLASSIFICATION
    refine: Callable[[Any, int], None] | None = None

    def learns(self, shape: Shape) -> Objective:
        """Return what the network learns from records of `shape`."""
        return self.objective if isinstance(self.objective, Objective) else self.objective(shape)
