"""The rule for nn.Embedding: a record's gradient touches only the rows of its own tokens."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..errors import ClippingError
from ..hooks import LayerWatch, finite


def watch_embedding(layer: nn.Embedding) -> LayerWatch:
    """Watch an embedding of tokens, integers [rows, ...].

    Raises:
        ClippingError: it renormalises, counts tokens over the batch, or makes sparse gradients.
    """
    for option in ("max_norm", "scale_grad_by_freq", "sparse"):
        if getattr(layer, option):
            raise ClippingError(f"nn.Embedding with {option} has no per-record rule", f"leave {option} out")
    return LayerWatch(layer, _run, TokensUse)


def _run(layer: nn.Embedding, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return nn.functional.embedding(tokens, layer.weight.detach()), tokens


class TokensUse:
    """Gradients of a table [vocabulary, width] as sums over the places of one token in one record.

    `sums` [pairs, width] belongs to the pairs of a record, `owners` [pairs], and a token, `tokens` [pairs].
    """

    def __init__(self, layer: nn.Embedding, tokens: torch.Tensor, gradient: torch.Tensor) -> None:
        self._weight: Any = layer.weight
        self._rows = len(tokens)
        size = layer.num_embeddings
        owners = torch.arange(self._rows, device=tokens.device).view(-1, *[1] * (tokens.dim() - 1))
        pairs, place = torch.unique((owners * size + tokens).flatten(), return_inverse=True)
        self.owners, self.tokens = pairs // size, pairs % size
        width = gradient.shape[-1]
        self.sums = gradient.new_zeros(len(pairs), width).index_add_(0, place, gradient.reshape(-1, width))
        if layer.padding_idx is not None:
            self.sums[self.tokens == layer.padding_idx] = 0.0

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._squares

    @cached_property
    def _squares(self) -> torch.Tensor:
        sizes = torch.linalg.vector_norm(self.sums, dim=1, dtype=torch.float64).square()
        return sizes.new_zeros(self._rows).index_add_(0, self.owners, sizes)

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squared norms, float64 [rows]: places are summed already."""
        return self._squares

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the table with the weighted sum."""
        share = factors[self.owners]
        parts = finite(self.sums, share) * share.to(self.sums.dtype)[:, None]
        table = self.sums.new_zeros(self._weight.shape)
        return [(self._weight, table.index_add_(0, self.tokens, parts))]
