"""A linear classifier on the wavelet scattering of an image, which is fixed and public."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import nn

from ..fixed import FixedFeatures
from ..network import Network

SCALES, ANGLES = 2, 8
"""The numbers of scales and of angles of the wavelets. The features have a quarter of the image's resolution."""

STRIDE = 2**SCALES
CHANNELS = 1 + ANGLES * SCALES + ANGLES**2 * SCALES * (SCALES - 1) // 2
"""The number of features of one place of one image channel: 81, of order zero, one and two."""


def gabor(height: int, width: int, deviation: float, angle: float, frequency: float, slant: float) -> torch.Tensor:
    """Return a Gabor function around place (0, 0) of a torus, complex128 [height, width]; its envelope has sum one.

    The envelope is a Gaussian with `deviation` pixels along `angle`, and `deviation / slant` across it. `frequency`
    is in radians per pixel.
    """
    rows, columns = (torch.arange(-2 * side, 3 * side, dtype=torch.float64) for side in (height, width))
    along = rows[:, None] * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows[:, None] * math.sin(angle)
    plane = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * deviation**2) + 1j * frequency * along)
    return plane.view(5, height, 5, width).sum((0, 2)) * slant / (2 * math.pi * deviation**2)


@lru_cache(maxsize=4)
def wavelets(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the spectra of the low-pass filter [height, width] and of the wavelets [scales, angles, height, width].

    They are real, on the CPU, and kept: do not change them. A Morlet wavelet is a Gabor function minus as much of its
    envelope as makes its sum zero.

    Reference: Bruna and Mallat 2013, section 2.1; Andreux et al. 2020, Kymatio, for the constants.
    """
    with torch.device("cpu"):
        low = gabor(height, width, 0.8 * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)
        bank = [
            _morlet(height, width, scale, math.pi * step / ANGLES)
            for scale in range(SCALES)
            for step in range(ANGLES)
        ]
        spectra = torch.fft.fft2(torch.stack([low, *bank])).real.float()
    return spectra[0], spectra[1:].view(SCALES, ANGLES, height, width)


def _morlet(height: int, width: int, scale: int, angle: float) -> torch.Tensor:
    deviation, frequency, slant = 0.8 * 2**scale, 0.75 * math.pi / 2**scale, 4 / ANGLES
    wave = gabor(height, width, deviation, angle, frequency, slant)
    envelope = gabor(height, width, deviation, angle, 0.0, slant)
    return wave - envelope * (wave.sum() / envelope.sum())


class Scattering(nn.Module):
    """The scattering of images, float32 [rows, channels, height, width] -> [rows, channels * 81, height', width'].

    Order zero is a local average of the image. Order one averages the moduli of its wavelet transforms. Order two
    averages the moduli of the wavelet transforms of these moduli, at coarser scales. height' is height / 4, rounded
    up; width' likewise. Each feature map is then normalised within its record: mean zero, variance v / (v + 1e-5).

    Reference: Bruna and Mallat 2013; Tramer and Boneh 2021, section 3.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.height, self.width = shape
        self.sides = [(math.ceil(side / STRIDE) + 2) * STRIDE for side in shape[1:]]
        low, bank = (spectra.to(torch.get_default_device()) for spectra in wavelets(*self.sides))
        for scale in range(SCALES + 1):
            self.register_buffer(f"low{scale}", _narrowed(low, 2**scale), persistent=False)
            for finer in range(scale + 1 if scale < SCALES else 0):
                self.register_buffer(f"bank{scale}at{finer}", _narrowed(bank[scale], 2**finer), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the normalised features."""
        (top, bottom), (left, right) = self._margins(0), self._margins(1)
        around = nn.functional.pad(images, (left, right, top, bottom), mode="reflect")
        spectrum = torch.fft.fft2(around)
        maps = [self._averaged(spectrum, 0), *self._orders(spectrum)]
        whole = torch.cat([each.flatten(1, -3) for each in maps], 1)
        return nn.functional.group_norm(whole, whole.shape[1])

    def _orders(self, spectrum: torch.Tensor) -> list[torch.Tensor]:
        first, second = [], []
        for scale in range(SCALES):
            waves = self._moduli(spectrum, self.get_buffer(f"bank{scale}at0"), 2**scale)
            first.append(self._averaged(waves, scale))
            for coarser in range(scale + 1, SCALES):
                bank = self.get_buffer(f"bank{coarser}at{scale}")
                second.append(self._averaged(self._moduli(waves, bank, 2 ** (coarser - scale)), coarser))
        return first + second

    def _moduli(self, spectrum: torch.Tensor, bank: torch.Tensor, stride: int) -> torch.Tensor:
        """Return the spectra of the moduli of the wavelet transforms, [..., angles, height, width], subsampled."""
        return torch.fft.fft2(torch.fft.ifft2(_subsampled(spectrum.unsqueeze(-3) * bank, stride)).abs())

    def _averaged(self, spectrum: torch.Tensor, scale: int) -> torch.Tensor:
        """Return local averages at a quarter of the images' resolution, without the margins."""
        low = self.get_buffer(f"low{scale}")
        return torch.fft.ifft2(_subsampled(spectrum * low, STRIDE >> scale)).real[..., 1:-1, 1:-1]

    def _margins(self, axis: int) -> tuple[int, int]:
        """Return the pixels that are mirrored before and after the image along an axis."""
        more = self.sides[axis] - (self.height, self.width)[axis]
        return STRIDE, more - STRIDE


def _subsampled(spectrum: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the spectrum of every `stride`-th row and column of a signal: the mean of its aliases."""
    while stride > 1:
        height, width = spectrum.shape[-2] // 2, spectrum.shape[-1] // 2
        rows = spectrum[..., :height, :] + spectrum[..., height:, :]
        spectrum, stride = (rows[..., :width] + rows[..., width:]) / 4, stride // 2
    return spectrum


def _narrowed(spectrum: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the spectrum of a filter for a signal at 1/`stride` of the resolution."""
    return _subsampled(spectrum, stride) * stride**2


def scattering(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a dense layer with `classes` outputs on the flattened scattering of an image.

    float32 [batch, channels, height, width] -> [batch, classes]; 39,700 parameters for 1x28x28 and 10 classes: 81
    maps of 7x7. The weights start at zero, so that no random start has to be unlearned through noise.

    Raises:
        ValueError: `shape` is not three numbers, or an image side is below 8.
    """
    if len(shape) != 3 or min(shape[1:]) < 8 or not shape[0]:
        raise ValueError(f"scattering takes records of shape [channels, height >= 8, width >= 8], not {list(shape)}")
    channels, *sides = shape
    features = channels * CHANNELS * math.prod(math.ceil(side / STRIDE) for side in sides)
    dense = nn.Linear(features, classes)
    for each in dense.parameters():
        nn.init.zeros_(each)
    return FixedFeatures(Scattering(shape), nn.Sequential(nn.Flatten(), dense))


NETWORK = Network("scattering", scattering)
