"""The small convolutional network: its outputs, its size and the images that it takes."""

from __future__ import annotations

import pytest
import torch

from bract.models.networks.cnn import cnn


@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 7), ((1, 10, 10), 2), ((2, 10, 17), 3), ((1, 11, 10), 3)]
)
def test_one_logit_a_class_for_every_record(shape: tuple[int, ...], classes: int) -> None:
    logits = cnn(shape, classes)(torch.randn(4, *shape))
    assert logits.shape == (4, classes)
    assert logits.dtype == torch.float32


def test_it_has_121930_parameters_for_28x28_images() -> None:
    """Grey ones, of 10 classes."""
    assert sum(p.numel() for p in cnn((1, 28, 28), 10).parameters()) == 121_930


@pytest.mark.parametrize("sides", [(9, 10), (10, 9), (9, 9), (1, 28), (28, 0)])
def test_an_image_side_below_10_is_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="height >= 10, width >= 10"):
        cnn((1, *sides), 10)


@pytest.mark.parametrize("shape", [(), (28,), (28, 28), (1, 1, 28, 28)])
def test_a_record_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cnn takes records of shape"):
        cnn(shape, 10)
