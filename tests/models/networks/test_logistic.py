"""Logistic regression: its outputs and its size."""

from __future__ import annotations

import pytest
import torch

from bract.models.networks.logistic import logistic


@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 10), ((5,), 2), ((2, 3), 4), ((3, 2, 2, 2), 3)])
def test_one_logit_a_class_for_a_record_of_any_shape(shape: tuple[int, ...], classes: int) -> None:
    logits = logistic(shape, classes)(torch.randn(4, *shape))
    assert logits.shape == (4, classes)
    assert logits.dtype == torch.float32


def test_it_has_7_850_parameters_for_28x28_images() -> None:
    """Grey ones, of 10 classes."""
    assert sum(p.numel() for p in logistic((1, 28, 28), 10).parameters()) == 7_850


def test_records_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="logistic takes records of at least one number"):
        logistic((3, 0), 10)
