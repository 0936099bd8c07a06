"""The number of parameters by arithmetic is the number that the network has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.models import count_parameters
from bract.simulations import sizes
from bract.simulations.budget.answer import read_budget_plan

IMAGES, SEQUENCES, RUNS = [(1, 28, 28), (3, 32, 32), (1, 19, 18)], [(6, 5), (1, 6, 5)], [(1,), (80,)]


def counted(name: str, shape: tuple[int, ...], classes: int) -> int | None:
    """What torch counts; None where the network does not take such records."""
    try:
        return count_parameters(name, shape, classes)
    except ValueError:
        return None


@pytest.mark.parametrize("name", sizes.SIZES)
@pytest.mark.parametrize("classes", [1, 2, 62])
def test_every_network_is_counted_as_torch_counts_it(name: str, classes: int) -> None:
    for shape in [*IMAGES, *SEQUENCES, *RUNS, (), (0, 3), (0,), (3, 0, 9)]:
        assert sizes.count_parameters(name, shape, classes) == counted(name, shape, classes), shape


@pytest.mark.parametrize("name", sizes.SIZES)
def test_every_network_is_counted_for_some_records(name: str) -> None:
    assert any(sizes.count_parameters(name, shape, 1) for shape in [*IMAGES, *RUNS])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(sizes.SIZES)),
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple),
    classes=st.integers(1, 100),
)
def test_every_shape_is_counted_as_torch_counts_it(name: str, shape: tuple[int, ...], classes: int) -> None:
    assert sizes.count_parameters(name, shape, classes) == counted(name, shape, classes)


def test_what_is_not_known_is_not_guessed() -> None:
    assert sizes.count_parameters("resnet", (1, 28, 28), 10) is None
    assert sizes.count_parameters("cnn", (784,), 10) is None
    assert sizes.count_parameters("cnn", (1, 9, 28), 10) is None


def test_a_network_without_arithmetic_is_counted_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new network needs no entry in `SIZES`."""
    monkeypatch.delitem(sizes.SIZES, "cnn")
    assert read_budget_plan({"data": {"shape": [1, 28, 28]}}, "the plan").parameters == 121930
