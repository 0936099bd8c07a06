"""A network with one self-attention block, for token sequences and for sequences of vectors."""

from __future__ import annotations

import torch
from torch import nn

from ..network import Network
from ..objectives import CLASSIFICATION, NEXT_TOKEN
from .rnn import sequence

WIDTH = 64


class Attention(nn.Module):
    """Single-head self-attention, softmax(Q K^T / sqrt(width)) V, then a Dense layer; keeps [batch, steps, width].

    If `causal`, each step attends only to itself and to earlier steps.

    Reference: Vaswani et al. 2017, equation 1.
    """

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.causal = causal

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the attention output of every step."""
        query, key, value = self.query(steps), self.key(steps), self.value(steps)
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal))


class Block(nn.Module):
    """Attention with a residual connection and layer normalization; keeps [batch, steps, width]."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, causal), nn.LayerNorm(width)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return LayerNorm(steps + attention(steps))."""
        return self.norm(steps + self.attention(steps))


class PositionalEmbedding(nn.Module):
    """Embeds steps and adds learned positions: [batch, (1,) steps, features] or tokens -> [batch, steps, width]."""

    def __init__(self, vectors: nn.Embedding | nn.Linear, steps: int, width: int) -> None:
        super().__init__()
        self.vectors, self.places = vectors, nn.Embedding(steps, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return embeddings plus positions; a channel axis of length 1 before the steps is dropped."""
        steps = inputs.flatten(1, -2) if isinstance(self.vectors, nn.Linear) else inputs
        places = torch.arange(steps.shape[1], device=steps.device).expand(steps.shape[:2])
        return self.vectors(steps) + self.places(places)


class Mean(nn.Module):
    """The mean over steps: [batch, steps, width] -> [batch, width]."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the mean."""
        return steps.mean(1)


def attention(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return 64-dimensional embeddings with learned positions - self-attention - add and LayerNorm - Dense `classes`.

    Tokens, int64 [batch, steps] in 0..classes-1 -> [batch, steps, classes]: an embedding layer and causal attention.
    Sequences, float32 [batch, (1,) steps, features] -> [batch, classes]: a Dense layer, full attention, and the
    classes from the mean over steps. 21,066 parameters for 28 steps of 28 features and 10 classes.

    Raises:
        ValueError: `shape` is not [steps], [steps, features] or [1, steps, features], or one of them is zero.
    """
    if len(shape) == 1 and shape[0] > 0:
        start = PositionalEmbedding(nn.Embedding(classes, WIDTH), shape[0], WIDTH)
        return nn.Sequential(start, Block(WIDTH, causal=True), nn.Linear(WIDTH, classes))
    try:
        steps, features = sequence("attention", shape)
    except ValueError as fault:
        raise ValueError(f"{fault}, nor a token sequence [steps]") from None
    start = PositionalEmbedding(nn.Linear(features, WIDTH), steps, WIDTH)
    return nn.Sequential(start, Block(WIDTH, causal=False), Mean(), nn.Linear(WIDTH, classes))


NETWORK = Network("attention", attention, lambda shape: NEXT_TOKEN if len(shape) == 1 else CLASSIFICATION)
