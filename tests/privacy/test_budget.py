"""A budget as JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest

from bract.privacy import Budget

BUDGET = Budget(2.0, 1e-5, "record", "released")


def test_json_holds_every_field_and_reads_back_equal() -> None:
    value = BUDGET.to_json()
    assert set(value) == {field.name for field in fields(Budget)}
    assert Budget(**json.loads(json.dumps(value))) == BUDGET


def test_neighbours_differ_by_adding_or_removing_one() -> None:
    assert BUDGET.relation == "add-or-remove-one"


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        BUDGET.epsilon = 100.0  # type: ignore[misc]


def test_a_cost_above_the_limit_or_not_a_number_is_not_covered() -> None:
    """`slack` is relative; a budget without a limit, which only a simulation has, covers everything."""
    assert BUDGET.covers(2.0)
    assert not BUDGET.covers(2.0000001)
    assert BUDGET.covers(2.0000001, slack=1e-6)
    assert not BUDGET.covers(float("inf"), slack=1e-6)
    assert not BUDGET.covers(float("nan"))
    assert Budget(None, 1e-5, "record", "released").covers(float("inf"))
