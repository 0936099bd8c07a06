"""The rule for nn.Embedding: a record's gradient is zero outside the rows of its own tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import ClippingError
from .base import ActivationRule, Pairs, PerExampleGradients
from .instantiated import zero_unweighted


class EmbeddingRule(ActivationRule):
    """Embeddings of tokens, int64 [rows, ...]. Options that depend on the whole batch are refused."""

    kinds = (nn.Embedding,)

    def check(self) -> None:
        """Refuse embeddings that renormalize, count tokens over the batch, or have sparse gradients.

        Raises:
            ClippingError: the layer has such an option.
        """
        for option in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(self.layer, option):
                raise ClippingError(f"nn.Embedding with {option} has no per-example rule", f"leave {option} out")

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors [rows, ..., width], and the tokens."""
        return nn.functional.embedding(inputs, self.layer.weight.detach()), inputs

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of the embedding's weight."""
        return EmbeddingGradients(self.layer, activation, output_gradient)


class EmbeddingGradients(PerExampleGradients):
    """Gradients of a weight [vocabulary, width], as one vector for each pair of a record and one of its tokens.

    `sums` [pairs, width] holds the output gradients, summed over the record's positions with this token. `records`
    [pairs] and `tokens` [pairs] name the record and the token of each pair.
    """

    def __init__(self, layer: nn.Embedding, tokens: torch.Tensor, gradient: torch.Tensor) -> None:
        """Sum the output gradient [rows, ..., width] over the positions of each of the tokens, int64 [rows, ...]."""
        self._weight: Any = layer.weight
        self._rows = len(tokens)
        size = layer.num_embeddings
        numbers = torch.arange(self._rows, device=tokens.device).view(-1, *[1] * (tokens.dim() - 1))
        pairs, place = torch.unique((numbers * size + tokens).flatten(), return_inverse=True)
        self.records, self.tokens = pairs // size, pairs % size
        width = gradient.shape[-1]
        self.sums = gradient.new_zeros(len(pairs), width).index_add_(0, place, gradient.reshape(-1, width))
        if layer.padding_idx is not None:
            self.sums[self.tokens == layer.padding_idx] = 0.0

    def _squared_norms(self) -> torch.Tensor:
        squares = torch.linalg.vector_norm(self.sums, dim=1, dtype=torch.float64).square()
        return squares.new_zeros(self._rows).index_add_(0, self.records, squares)

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return the weight with the sum of the records' gradients times `factors` [rows]."""
        share = factors[self.records]
        parts = zero_unweighted(self.sums, share) * share.to(self.sums.dtype)[:, None]
        table = self.sums.new_zeros(self._weight.shape)
        return [(self._weight, table.index_add_(0, self.tokens, parts))]
