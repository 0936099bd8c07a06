"""The network of one self-attention block, for runs of tokens and for sequences."""

from __future__ import annotations

import torch
from torch import nn

from .rnn import sequence

WIDTH = 64


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(width)) V of every step, one head, then a Dense layer: [batch, steps, width] to the same.

    If `causal`, a step attends to itself and to what came before.

    Reference: Vaswani et al. 2017, equation 1.
    """

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.causal = causal

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return what every step reads from the steps it attends to."""
        query, key, value = self.query(steps), self.key(steps), self.value(steps)
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal))


class Block(nn.Module):
    """Attention, added to its input and normalised: [batch, steps, width] to the same."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, causal), nn.LayerNorm(width)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return LayerNorm(steps + attention(steps))."""
        return self.norm(steps + self.attention(steps))


class Placed(nn.Module):
    """Steps as vectors with their places added: [batch, (1,) steps, features] or tokens -> [batch, steps, width]."""

    def __init__(self, vectors: nn.Embedding | nn.Linear, steps: int, width: int) -> None:
        super().__init__()
        self.vectors, self.places = vectors, nn.Embedding(steps, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return vectors plus places; a channel of its own before the steps is left out."""
        steps = inputs.flatten(1, -2) if isinstance(self.vectors, nn.Linear) else inputs
        places = torch.arange(steps.shape[1], device=steps.device).expand(steps.shape[:2])
        return self.vectors(steps) + self.places(places)


class Mean(nn.Module):
    """The mean over steps: [batch, steps, width] -> [batch, width]."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the mean."""
        return steps.mean(1)


def attention(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return vectors of 64 with learned places - self-attention - add and LayerNorm - Dense `classes`.

    Of tokens, int64 [batch, steps] in 0..classes-1 -> [batch, steps, classes], the vectors are an embedding, and a
    step sees only itself and what came before. Of a sequence, float32 [batch, (1,) steps, features] ->
    [batch, classes], they are a Dense layer, every step sees all, and the classes come from the mean over steps.
    21,066 parameters for 28 steps of 28 features and 10 classes.

    Raises:
        ValueError: `shape` is not [steps], [steps, features] or [1, steps, features], or one of them is zero.
    """
    if len(shape) == 1 and shape[0] > 0:
        start = Placed(nn.Embedding(classes, WIDTH), shape[0], WIDTH)
        return nn.Sequential(start, Block(WIDTH, causal=True), nn.Linear(WIDTH, classes))
    try:
        steps, features = sequence("attention", shape)
    except ValueError as fault:
        raise ValueError(f"{fault}, nor a run of tokens [steps]") from None
    start = Placed(nn.Linear(features, WIDTH), steps, WIDTH)
    return nn.Sequential(start, Block(WIDTH, causal=False), Mean(), nn.Linear(WIDTH, classes))
