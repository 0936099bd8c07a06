"""A linear classifier on the wavelet scattering of a time series, which is fixed and public."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..fixed import FixedFeatures
from ..network import Network
from .cnn_1d import Channels
from .rnn import sequence

MOST_SCALES, PLACES = 5, 2
"""The most scales of the wavelets, an octave apart, and the parts of a series over which each feature is averaged."""

LEAST_STEPS = 16
FLOOR = 0.01
"""What is added to a modulus, in units of the record's mean modulus, before its logarithm."""


def scales_of(steps: int) -> int:
    """Return the number of scales for a series: the slowest wavelet takes at most about a quarter of it."""
    return min(MOST_SCALES, int(math.log2(steps)) - 2)


def wavelets(steps: int, scales: int) -> torch.Tensor:
    """Return the spectra of Morlet wavelets, one for each scale, float32 [scales, steps]; they are real.

    Wavelet j has the centre frequency 0.75 pi / 2^j radians a step, and a Gaussian envelope of 0.8 * 2^j steps. As
    much of the envelope is subtracted as makes its sum zero.

    Reference: Bruna and Mallat 2013, section 2.1; Andreux et al. 2020, Kymatio, for the constants.
    """
    bank = []
    for scale in range(scales):
        deviation, centre = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
        wave, envelope = (_bell(steps, deviation, at) for at in (centre, 0.0))
        bank.append(wave - envelope * (wave[0] / envelope[0]))
    return torch.stack(bank).float()


def _bell(steps: int, deviation: float, centre: float) -> torch.Tensor:
    """Return the spectrum of a Gabor function that is sampled at each step: frequencies above half a turn fold."""
    turns = torch.fft.fftfreq(steps, dtype=torch.float64) + torch.arange(-2, 3)[:, None]
    return torch.exp(-((deviation * (2 * math.pi * turns - centre)) ** 2) / 2).sum(0)


class Scattering1d(nn.Module):
    """The scattering of series, float32 [rows, channels, steps] -> [rows, channels * paths * 2].

    The paths are the series itself, the moduli of its wavelet transforms, and the moduli of the wavelet transforms of
    these moduli at slower scales: 16 paths from 128 steps on. Each is averaged over the two halves of the series. The
    averages of the series are normalised within their record, and so are the logarithms of all the others: neither
    depends on the unit of the series.

    Reference: Anden and Mallat 2014, "Deep scattering spectrum", sections 2 and 3.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.scales = steps, scales_of(steps)
        self.margin = steps // 2
        bank = wavelets(steps + 2 * self.margin, self.scales).to(torch.get_default_device())
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Return the normalised features."""
        around = nn.functional.pad(series, (self.margin, self.margin), mode="reflect")
        first = self._moduli(around.unsqueeze(-2), self.get_buffer("bank"))
        second = [
            self._moduli(first[..., j, :].unsqueeze(-2), self.get_buffer("bank")[j + 1 :])
            for j in range(self.scales - 1)
        ]
        low = self._averaged(around).flatten(1)
        rest = torch.cat([self._averaged(each).flatten(1) for each in (first, *second)], 1)
        rest = (rest / rest.mean(1, keepdim=True).clamp(min=1e-12) + FLOOR).log()
        return torch.cat([nn.functional.layer_norm(part, part.shape[1:]) for part in (low, rest)], 1)

    def _moduli(self, series: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
        """Return the moduli of the wavelet transforms, [..., 1, steps] -> [..., wavelets, steps]."""
        return torch.fft.ifft(torch.fft.fft(series) * bank).abs()

    def _averaged(self, series: torch.Tensor) -> torch.Tensor:
        """Return the means of the two halves, without the margins, [..., steps] -> [..., 2]."""
        inner = series[..., self.margin : self.margin + self.steps]
        half = self.steps // 2
        return torch.stack([inner[..., :half].mean(-1), inner[..., half:].mean(-1)], -1)


def scattering_1d(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a dense layer with `classes` outputs on the scattering of a series; its weights start at zero.

    Sequences, float32 [batch, (1,) steps, features] -> [batch, classes]; 1,158 parameters for 128 steps of 6 features
    and 6 classes.

    Raises:
        ValueError: `shape` is not [steps, features] or [1, steps, features], or there are fewer than 16 steps.
    """
    steps, features = sequence("scattering-1d", shape)
    if steps < LEAST_STEPS:
        raise ValueError(f"scattering-1d takes sequences of at least {LEAST_STEPS} steps, not of {steps}")
    scales = scales_of(steps)
    paths = 1 + scales + scales * (scales - 1) // 2
    dense = nn.Linear(features * paths * PLACES, classes)
    for each in dense.parameters():
        nn.init.zeros_(each)
    to_channels = [nn.Flatten(1, -2)] if len(shape) == 3 else []
    return FixedFeatures(nn.Sequential(*to_channels, Channels(), Scattering1d(steps)), dense)


NETWORK = Network("scattering-1d", scattering_1d)
