"""The number of parameters by arithmetic is the number that the network has."""

from __future__ import annotations

import pytest

from bract.models import MODELS, count_parameters
from bract.simulations import sizes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 12), (2, 10, 47), (1, 11, 13)])
@pytest.mark.parametrize("classes", [2, 10, 62])
def test_every_network_is_counted_as_torch_counts_it(name: str, shape: tuple[int, ...], classes: int) -> None:
    assert sizes.count_parameters(name, shape, classes) == count_parameters(name, shape, classes)


def test_what_is_not_known_is_not_guessed() -> None:
    assert sizes.count_parameters("resnet", (1, 28, 28), 10) is None
    assert sizes.count_parameters("cnn", (784,), 10) is None
    assert sizes.count_parameters("cnn", (1, 9, 28), 10) is None
