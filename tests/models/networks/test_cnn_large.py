"""The large convolutional network: its outputs, its size and the images that it takes."""

from __future__ import annotations

import pytest
import torch

from bract.models.networks.cnn_large import cnn_large


@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 7), ((1, 18, 18), 2), ((2, 19, 25), 3)]
)
def test_one_logit_a_class_for_every_record(shape: tuple[int, ...], classes: int) -> None:
    logits = cnn_large(shape, classes)(torch.randn(4, *shape))
    assert logits.shape == (4, classes)
    assert logits.dtype == torch.float32


def test_it_has_688138_parameters_for_28x28_images() -> None:
    """Grey ones, of 10 classes."""
    assert sum(p.numel() for p in cnn_large((1, 28, 28), 10).parameters()) == 688_138


@pytest.mark.parametrize("shape", [(), (28, 28), (1, 17, 18), (1, 18, 17), (1, 1, 28, 28)])
def test_a_record_that_is_no_image_or_too_small_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cnn-large takes records of shape"):
        cnn_large(shape, 10)
