"""The scattering of series is that of convolutions in time, has no unit, and is a public function of each record."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bract.models import build, check_fixed, count_parameters, features_of, parts_of
from bract.models.networks.scattering_1d import Scattering1d, scales_of, wavelets
from bract.simulations.sizes import count_parameters as by_arithmetic


def series(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def by_convolution(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One channel's averages, and the moduli's, by sums in time; it shares no code with the network."""
    steps = len(channel)
    around = np.pad(channel, steps // 2, mode="reflect")
    length, times = len(around), np.arange(len(around)) - len(around) // 2

    def wavelet(scale: int) -> np.ndarray:
        deviation, centre = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
        envelope = sum(np.exp(-((times + turn * length) ** 2) / (2 * deviation**2)) for turn in (-1, 0, 1))
        wave = sum(
            np.exp(-((times + turn * length) ** 2) / (2 * deviation**2) + 1j * centre * (times + turn * length))
            for turn in (-1, 0, 1)
        )
        wave = wave - envelope * (wave.sum() / envelope.sum())
        return np.roll(wave, -(length // 2)) / (deviation * math.sqrt(2 * math.pi))

    def moduli(signal: np.ndarray, scale: int) -> np.ndarray:
        kernel = wavelet(scale)
        turned = np.stack([np.roll(kernel, shift) for shift in range(length)], 1)
        return np.abs(turned @ signal)

    def averaged(signal: np.ndarray) -> list[float]:
        inner = signal[steps // 2 : steps // 2 + steps]
        return [inner[: steps // 2].mean(), inner[steps // 2 :].mean()]

    scales = scales_of(steps)
    first = [moduli(around, scale) for scale in range(scales)]
    second = [moduli(first[fine], slow) for fine in range(scales) for slow in range(fine + 1, scales)]
    return np.array(averaged(around)), np.array([averaged(each) for each in (*first, *second)])


def test_it_is_what_convolutions_in_time_give() -> None:
    signal = series(1, 1, 40)
    low, rest = by_convolution(signal[0, 0].double().numpy())
    rest = np.log(rest / rest.mean() + 0.01).ravel()
    expected = np.concatenate([(part - part.mean()) / math.sqrt(part.var() + 1e-5) for part in (low, rest)])
    assert np.abs(Scattering1d(40)(signal)[0].numpy() - expected).max() < 1e-3


def test_wavelets_have_no_mean() -> None:
    bank = wavelets(128, 5)
    assert bank.shape == (5, 128)
    assert bank[:, 0].abs().max() < 1e-6


def test_another_unit_of_the_series_changes_nothing() -> None:
    """But for the smallest number that a variance is compared with."""
    signal, network = series(4, 3, 64), Scattering1d(64)
    assert torch.allclose(network(signal), network(signal * 1000), atol=1e-3)


@pytest.mark.parametrize("shape", [(128, 6), (1, 128, 6), (16, 1), (17, 2)])
def test_sequences_give_one_output_a_class(shape: tuple[int, ...]) -> None:
    assert build("scattering-1d", shape, 6)(series(3, *shape)).shape == (3, 6)
    assert count_parameters("scattering-1d", shape, 6) == by_arithmetic("scattering-1d", shape, 6)


def test_an_axis_of_one_channel_changes_nothing() -> None:
    records = series(2, 40, 3)
    (flat, _), (deep, _) = (parts_of(build("scattering-1d", shape, 4)) for shape in ((40, 3), (1, 40, 3)))
    assert torch.equal(features_of(flat, records), features_of(deep, records[:, None]))


@pytest.mark.parametrize("steps", [16, 31, 128, 1000])
def test_features_depend_on_their_record_alone(steps: int) -> None:
    fixed, _ = parts_of(build("scattering-1d", (steps, 2), 3))
    check_fixed(fixed, series(1, steps, 2))


def test_a_silent_series_has_finite_features() -> None:
    assert Scattering1d(32)(torch.zeros(1, 2, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "why"), [((15, 6), "at least 16 steps"), ((4,), "takes records"), ((3, 28, 28), "takes")]
)
def test_records_that_are_no_sequences_are_refused(shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build("scattering-1d", shape, 6)
