"""The scattering of images is the published one, and a public function of each record alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from bract.models import build, count_parameters, features_of, parts_of
from bract.models.networks.scattering import CHANNELS, Scattering, gabor, wavelets


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def raw(shape: tuple[int, ...], records: torch.Tensor) -> torch.Tensor:
    """The features before they are normalised."""
    part = Scattering(shape)
    top, left = (part._margins(axis) for axis in (0, 1))
    spectrum = torch.fft.fft2(torch.nn.functional.pad(records, (*left, *top), mode="reflect"))
    maps = [part._averaged(spectrum, 0), *part._orders(spectrum)]
    return torch.cat([each.flatten(1, -3) for each in maps], 1)


def by_convolution(image: np.ndarray) -> np.ndarray:
    """One image's features by sums in space, at full resolution, and every fourth place of them.

    It shares no code with the network but the constants of the published filters.
    """
    side = (math.ceil(len(image) / 4) + 2) * 4
    image = np.pad(image, (4, side - len(image) - 4), mode="reflect")
    rows, columns = np.meshgrid(*[np.arange(side) - side // 2] * 2, indexing="ij")

    def envelope(deviation: float, angle: float, slant: float) -> np.ndarray:
        turned = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
        folded = np.zeros((side, side))
        for up, right in itertools.product((-side, 0, side), repeat=2):
            a = turned[0] + up * np.cos(angle) + right * np.sin(angle)
            b = turned[1] + right * np.cos(angle) - up * np.sin(angle)
            folded += np.exp(-(a**2 + (slant * b) ** 2) / (2 * deviation**2))
        return folded * slant / (2 * np.pi * deviation**2)

    def wave(deviation: float, angle: float, frequency: float) -> np.ndarray:
        folded = np.zeros((side, side), complex)
        for up, right in itertools.product((-side, 0, side), repeat=2):
            a = (rows + up) * np.cos(angle) + (columns + right) * np.sin(angle)
            b = (columns + right) * np.cos(angle) - (rows + up) * np.sin(angle)
            folded += np.exp(-(a**2 + b**2 / 4) / (2 * deviation**2) + 1j * frequency * a)
        plain = envelope(deviation, angle, 0.5)
        folded = folded / (4 * np.pi * deviation**2)
        return folded - plain * (folded.sum() / plain.sum())

    def convolved(signal: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return convolve(signal, kernel.real, mode="wrap") + 1j * convolve(signal, kernel.imag, mode="wrap")

    def averaged(signal: np.ndarray) -> np.ndarray:
        return convolve(signal, envelope(1.6, 0.0, 1.0), mode="wrap")[::4, ::4][1:-1, 1:-1]

    angles = [math.pi * step / 8 for step in range(8)]
    fine, coarse = ([wave(0.8 * 2**s, angle, 0.75 * math.pi / 2**s) for angle in angles] for s in (0, 1))
    first = [np.abs(convolved(image, kernel)) for kernel in fine]
    second = [np.abs(convolved(one, kernel)) for one in first for kernel in coarse]
    others = [np.abs(convolved(image, kernel)) for kernel in coarse]
    return np.stack([averaged(each) for each in [image, *first, *others, *second]])


@pytest.mark.full
def test_it_is_what_convolutions_in_space_give() -> None:
    """The network works in the frequency domain and drops places early, which blurs nothing beyond 2 percent."""
    image = images(12, 12)
    expected, found = by_convolution(image.numpy()), raw((1, 12, 12), image[None, None])[0].numpy()
    assert found.shape == expected.shape == (CHANNELS, 3, 3)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_a_gabor_function_has_an_envelope_of_sum_one() -> None:
    assert gabor(36, 40, 1.6, 0.3, 0.0, 0.5).sum().real == pytest.approx(1.0, abs=1e-6)


def test_wavelets_have_no_mean_and_the_low_pass_has_one() -> None:
    low, bank = wavelets(36, 40)
    assert float(low[0, 0]) == pytest.approx(1.0, abs=1e-6)
    assert bank[..., 0, 0].abs().max() < 1e-6


def test_a_flat_image_has_features_of_order_zero_alone() -> None:
    features = raw((1, 16, 16), torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(features[:, 0], torch.tensor(0.7), atol=1e-5)
    assert features[:, 1:].abs().max() < 1e-5


def test_a_mirrored_image_has_the_mirrored_angles() -> None:
    """Angle k of an image is angle 8 - k of its mirror image; angle 0 and the right angle are their own."""
    image = images(1, 1, 16, 16)
    one, other = raw((1, 16, 16), image), raw((1, 16, 16), image.flip(-2))
    for angle in range(1, 8):
        assert torch.allclose(one[:, 1 + angle].mean(), other[:, 1 + 8 - angle].mean(), rtol=0.05)


@pytest.mark.parametrize(("shape", "sides"), [((1, 28, 28), (7, 7)), ((3, 30, 33), (8, 9)), ((1, 8, 8), (2, 2))])
def test_there_are_81_maps_of_a_quarter_of_the_sides(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    found = Scattering(shape)(images(2, *shape))
    assert found.shape == (2, shape[0] * 81, *sides)


def test_each_map_is_normalised_within_its_record() -> None:
    records = images(3, 1, 28, 28)
    before, found = raw((1, 28, 28), records), Scattering((1, 28, 28))(records)
    mean, variance = before.mean((2, 3), keepdim=True), before.var((2, 3), correction=0, keepdim=True)
    assert torch.allclose(found, (before - mean) / (variance + 1e-5).sqrt(), atol=1e-3)


def test_a_records_features_depend_on_it_alone_bit_for_bit() -> None:
    fixed, _ = parts_of(build("scattering", (1, 12, 12), 3))
    records = images(37, 1, 12, 12)
    whole = features_of(fixed, records)
    records[:5] = float("nan")
    assert torch.equal(features_of(fixed, records)[5:], whole[5:])
    assert torch.equal(features_of(fixed, records[11:30]), whole[11:30])
    assert features_of(fixed, records[:0]).shape == (0, *whole.shape[1:])


def test_only_the_linear_layer_is_trained_and_written() -> None:
    model = build("scattering", (1, 28, 28), 10)
    assert count_parameters("scattering", (1, 28, 28), 10) == 39_700
    assert set(model.state_dict()) == {"trained.1.weight", "trained.1.bias"}


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 7, 28)])
def test_records_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scattering takes records"):
        build("scattering", shape, 10)
