"""The convolutional network for time series."""

from __future__ import annotations

import pytest
import torch

from bract.models import build, count_parameters


@pytest.mark.parametrize("shape", [(128, 6), (1, 128, 6), (16, 1)])
def test_sequences_give_one_output_a_class(shape: tuple[int, ...]) -> None:
    assert build("cnn-1d", shape, 6)(torch.rand(3, *shape)).shape == (3, 6)


def test_an_axis_of_one_channel_changes_nothing() -> None:
    series = torch.rand(2, 40, 3)
    assert torch.equal(
        build("cnn-1d", (40, 3), 4, seed=1)(series), build("cnn-1d", (1, 40, 3), 4, seed=1)(series[:, None])
    )


@pytest.mark.parametrize("steps", [16, 128, 1000])
def test_its_size_does_not_depend_on_the_steps(steps: int) -> None:
    assert count_parameters("cnn-1d", (steps, 6), 6) == 13_798


@pytest.mark.parametrize(
    ("shape", "why"), [((15, 6), "at least 16 steps"), ((4,), "takes records"), ((3, 28, 28), "takes")]
)
def test_records_that_are_no_sequences_are_refused(shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build("cnn-1d", shape, 6)
