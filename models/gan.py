"""Two networks against each other: one makes records, the other, which alone sees data, tells them from true ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

LATENT = 32
"""Numbers, uniform over -1..1, that the generator makes a record of."""

STEPS, ROWS, RATE = 5, 128, 3e-4
"""Steps of the generator after each step of the discriminator, made records in each, and their learning rate."""

GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""Odd numbers of SplitMix64, as int64."""


class Gan(nn.Module):
    """A discriminator and a generator: outputs [rows, 2], how true a record and a made one look, as logits.

    Each record is set against one made record, whose latent numbers are a hash of the record's own bits and of the
    weights that judge it: new ones at every step, without a state, and nobody else's record has a part in them. So
    a record's loss is a function of it and the parameters alone, and its gradient is clipped as any other's: the sum
    moves by at most one clip norm with a record, whatever the generator makes.

    Only the discriminator's parameters require gradients. The generator sees no data: it learns from the
    discriminator, after this was released, by `refine`.

    Reference: Goodfellow et al. 2014; Xie et al. 2018, DPGAN; the hash's last steps, Steele et al. 2014.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        numbers, self.shape = math.prod(shape), shape
        self.discriminator = nn.Sequential(nn.Linear(numbers, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
        self.generator = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, numbers), nn.Sigmoid())
        for parameter in self.generator.parameters():
            parameter.requires_grad = False

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [rows, 2] for records, floating [rows, *shape]."""
        records = features.flatten(1)
        with torch.no_grad():
            made = self.generator(self._latents(records))
        return self.discriminator(torch.stack([records, made], 1)).squeeze(-1)

    def make(self, count: int, seed: int) -> torch.Tensor:
        """Return so many made records, float32 [count, *shape] in 0..1: a function of parameters and seed."""
        latents = uniform(count, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            made = self.generator(latents.to(self.generator[0].weight.device))  # type: ignore[union-attr]
        return made.view(count, *self.shape)

    def _latents(self, records: torch.Tensor) -> torch.Tensor:
        """Return the latent numbers [rows, LATENT] that go with records [rows, numbers], of their dtype."""
        *_, last, _ = self.discriminator.parameters()
        phase = _hash(last.detach().flatten())
        places = torch.arange(1, LATENT + 1, device=records.device) * GOLDEN
        words = _mix((_hash(records) + phase)[:, None] + places)
        return ((words >> 40) & 0xFFFFFF).to(records.dtype) / 2**23 - 1


def uniform(count: int, source: torch.Generator) -> torch.Tensor:
    """Return latent numbers, float32 [count, LATENT], uniform over -1..1."""
    return torch.rand(count, LATENT, generator=source) * 2 - 1


def _hash(numbers: torch.Tensor) -> torch.Tensor:
    """Return an int64 for each row [..., numbers], from their bits as float32: whole numbers, so in any order."""
    bits = numbers.float().contiguous().view(torch.int32).long()
    keys = _mix(torch.arange(1, bits.shape[-1] + 1, device=bits.device) * GOLDEN) | 1
    return _mix((bits * keys).sum(-1))


def _mix(words: torch.Tensor) -> torch.Tensor:
    words = (words ^ _shifted(words, 30)) * FIRST
    words = (words ^ _shifted(words, 27)) * SECOND
    return words ^ _shifted(words, 31)


def _shifted(words: torch.Tensor, places: int) -> torch.Tensor:
    """Return int64 shifted right as if it had no sign."""
    return (words >> places) & ((1 << (64 - places)) - 1)


def refine(model: Gan, seed: int) -> None:
    """Let the generator take its steps towards what the discriminator, which stays as it is, holds to be true.

    Adam starts afresh each time, so nothing but the parameters need be kept from one round to the next.

    Guarantee: it sees the model and the seed alone: what was released is processed further, at no cost in privacy.
    Reference: Goodfellow et al. 2014, the loss that does not saturate.
    """
    maker = copy.deepcopy(model.generator).requires_grad_(True)
    weights, source = list(maker.parameters()), torch.Generator().manual_seed(seed)
    stepper = torch.optim.Adam(weights, lr=RATE, betas=(0.5, 0.999))
    for _ in range(STEPS):
        doubts = nn.functional.softplus(-model.discriminator(maker(uniform(ROWS, source)))).mean()
        for weight, gradient in zip(weights, torch.autograd.grad(doubts, weights), strict=True):
            weight.grad = gradient
        stepper.step()
    model.generator.load_state_dict(maker.state_dict())


def gan(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return discriminator Dense 64 - Dense 1 and generator Dense 128 - Dense, on flat records of numbers in 0..1.

    float32 [batch, *shape] -> [batch, 2], whatever the classes; 155,665 parameters for 1x28x28.

    Raises:
        ValueError: `shape` holds no number.
    """
    del classes
    if not math.prod(shape):
        raise ValueError(f"gan takes records of at least one number, not of shape {list(shape)}")
    return Gan(shape)
