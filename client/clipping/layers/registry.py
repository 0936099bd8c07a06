"""What a rule for a layer is, and the layers that have one.

A rule gives every record's own gradient of a layer's parameters in factors that the usual backward pass makes anyway:
the norms can be had from these, and then the sum of the clipped gradients, without the gradients.

Reference: Bu et al. 2023, "Differentially Private Optimization on Large Model at Small Cost", book-keeping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from . import recurrent
from .conv import watch_convolution, watch_transposed
from .embedding import watch_embedding
from .linear import watch_linear
from .norm import watch_group_norm, watch_layer_norm


class Use(Protocol):
    """What one layer did for a batch of `rows` records; complete after the backward pass."""

    def squared_norms(self) -> torch.Tensor:
        """Return the squared L2 norm of each record's gradient over the layer's parameters, float64 [rows].

        It may be off, even be zero, by a rounding error relative to `squared_magnitudes`.
        """
        ...

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the square of what the rounding of a record's part in `weighted` is relative to, float64 [rows].

        It is the norm itself if the gradients are summed over positions before they are summed over records, else
        a bound on the sum over positions of |input||output gradient|.
        """
        ...

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return each parameter with the sum of the records' gradients times `factors` [rows].

        A record of factor zero counts for nothing even if its gradient is not finite.
        """
        ...


class Watch(Protocol):
    """A layer under observation. `uses` are those since it was last emptied."""

    @property
    def uses(self) -> list[Any]:
        """Return the uses, each a `Use`."""
        ...

    def install(self) -> None:
        """Put our forward in place of the layer's own."""
        ...

    def remove(self) -> None:
        """Leave the layer as it was before."""
        ...


Rule = Callable[[Any], Watch]

RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: watch_linear,
    nn.Conv1d: watch_convolution,
    nn.Conv2d: watch_convolution,
    nn.ConvTranspose2d: watch_transposed,
    nn.Embedding: watch_embedding,
    nn.LayerNorm: watch_layer_norm,
    nn.GroupNorm: watch_group_norm,
    nn.RNN: recurrent.watch,
    nn.GRU: recurrent.watch,
    nn.LSTM: recurrent.watch,
}
"""Layer to rule, by exact type: a subclass may do something else in its forward."""
