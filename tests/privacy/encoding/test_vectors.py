"""Secret vectors: no way of printing shows a coordinate."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from bract.privacy import Clipped, Contribution, Release, Sum, Update, Upload

SECRET = 1234567
KINDS = [Update, Clipped, Contribution, Upload, Sum, Release]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda value: f"{[value]}"])
def test_no_way_of_printing_shows_a_coordinate(kind: type, show) -> None:
    text = show(kind(np.array([SECRET, 7654321, 4], dtype=np.int64)))
    assert str(SECRET) not in text
    assert "7654321" not in text
    assert kind.__name__ in text
    assert "shape=(3,)" in text


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_that_carries_it_does_not_show_it(kind: type) -> None:
    assert str(SECRET) not in str(ValueError("bad", kind(np.array([SECRET]))))


@pytest.mark.parametrize("kind", KINDS)
def test_is_frozen_and_no_degree_of_secrecy_is_another(kind: type) -> None:
    value = kind(np.zeros(3))
    with pytest.raises(FrozenInstanceError):
        value.vector = np.ones(3)
    assert [isinstance(value, other) for other in KINDS].count(True) == 1
