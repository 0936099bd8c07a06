"""A generative adversarial network (GAN). Only the discriminator sees data; the generator trains without any."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from ..network import Network
from ..objectives import GENERATION

LATENT = 32
"""The dimension of the generator's input, which is uniform over -1..1."""

STEPS, ROWS, RATE = 5, 128, 3e-4
"""Generator steps after each release of the discriminator, generated records in each step, and the learning rate."""

GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The odd constants of SplitMix64, as int64."""


class Gan(nn.Module):
    """A discriminator and a generator. Outputs logits [rows, 2]: of a record and of a generated record being real.

    Each record is paired with one generated record. Its latent vector is a hash of the record's bits and of the
    discriminator's last weights, so it changes with every step, needs no state and depends on no other record. A
    record's loss is therefore a function of that record and the parameters, and clipping bounds its gradient as
    usual: one record moves the sum by at most one clip norm, whatever the generator outputs.

    Only the discriminator's parameters require gradients. The generator sees no data: `refine` trains it against
    the released discriminator.

    Reference: Goodfellow et al. 2014; Xie et al. 2018, DPGAN; Steele et al. 2014 for the mixing steps of the hash.
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
            generated = self.generator(self._latents(records))
        return self.discriminator(torch.stack([records, generated], 1)).squeeze(-1)

    def make(self, count: int, seed: int) -> torch.Tensor:
        """Return `count` generated records, float32 [count, *shape] in 0..1: a function of parameters and seed."""
        latents = uniform(count, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            generated = self.generator(latents.to(self.generator[0].weight.device))  # type: ignore[union-attr]
        return generated.view(count, *self.shape)

    def _latents(self, records: torch.Tensor) -> torch.Tensor:
        """Return the latent vectors [rows, LATENT] for records [rows, values], in the records' dtype."""
        *_, last, _ = self.discriminator.parameters()
        phase = _hash(last.detach().flatten())
        places = torch.arange(1, LATENT + 1, device=records.device) * GOLDEN
        words = _mix((_hash(records) + phase)[:, None] + places)
        return ((words >> 40) & 0xFFFFFF).to(records.dtype) / 2**23 - 1


def uniform(count: int, source: torch.Generator) -> torch.Tensor:
    """Return latent vectors, float32 [count, LATENT], uniform over -1..1."""
    return torch.rand(count, LATENT, generator=source) * 2 - 1


def _hash(numbers: torch.Tensor) -> torch.Tensor:
    """Return an int64 hash for each row of [..., values], from their float32 bits; integer sums ignore the order."""
    bits = numbers.float().contiguous().view(torch.int32).long()
    keys = _mix(torch.arange(1, bits.shape[-1] + 1, device=bits.device) * GOLDEN) | 1
    return _mix((bits * keys).sum(-1))


def _mix(words: torch.Tensor) -> torch.Tensor:
    words = (words ^ _shifted(words, 30)) * FIRST
    words = (words ^ _shifted(words, 27)) * SECOND
    return words ^ _shifted(words, 31)


def _shifted(words: torch.Tensor, places: int) -> torch.Tensor:
    """Return int64 words after a logical (unsigned) right shift."""
    return (words >> places) & ((1 << (64 - places)) - 1)


def refine(model: Gan, seed: int) -> None:
    """Train the generator in place for `STEPS` steps against the discriminator, which does not change.

    Adam starts anew in every call, so a round keeps no state except the parameters.

    Guarantee: reads only the released model and the seed. It is post-processing and costs no privacy.
    Reference: Goodfellow et al. 2014, the non-saturating loss.
    """
    generator = copy.deepcopy(model.generator).requires_grad_(True)
    weights, source = list(generator.parameters()), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(weights, lr=RATE, betas=(0.5, 0.999))
    for _ in range(STEPS):
        loss = nn.functional.softplus(-model.discriminator(generator(uniform(ROWS, source)))).mean()
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        optimizer.step()
    model.generator.load_state_dict(generator.state_dict())


def gan(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return discriminator Dense 64 - Dense 1 and generator Dense 128 - Dense, for flattened records in 0..1.

    float32 [batch, *shape] -> [batch, 2], whatever the classes; 155,665 parameters for 1x28x28.

    Raises:
        ValueError: a record of this shape has no values.
    """
    del classes
    if not math.prod(shape):
        raise ValueError(f"gan takes records of at least one number, not of shape {list(shape)}")
    return Gan(shape)


NETWORK = Network("gan", gan, GENERATION, refine)
