"""How far a reader has to follow from a plan to its noise scale, counted in calls of functions of privacy/."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, get_args

import pytest

import bract.privacy
from bract.privacy import Plan, make_plan, mechanism_of
from bract.privacy.plan.schema import Privacy

FOLDER = str(bract.privacy.__file__).removesuffix("__init__.py")

MOST_CALLS = 10
"""How many calls lie between a plan whose noise multiplier is given and its noise scale."""


def calls(act: Callable[[], object]) -> list[str]:
    """Return the names of the functions of privacy/ that are called, in order."""
    found: list[str] = []

    def see(frame: FrameType, event: str, argument: Any) -> None:
        del argument
        if event == "call" and frame.f_code.co_filename.startswith(FOLDER):
            found.append(frame.f_code.co_name)

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("noise", get_args(Privacy.model_fields["noise"].annotation))
def test_few_calls_lie_between_a_plan_and_its_noise(noise: str, unit: str) -> None:
    """Nothing is computed before the count, except that the mechanism's file is loaded."""
    privacy = {"noise": noise, "unit": unit, "noise_multiplier": 20.0, "sampling_rate": 1.0}
    tables = {"privacy": privacy, "aggregation": {"protocol": "secagg"}, "model": {"parameters": 1000}}
    plan = make_plan(tables, Plan)
    mechanism_of.cache_clear()
    found = calls(lambda: mechanism_of(plan).noise_std(1000))
    assert "mechanism_of" in found
    assert "noise_std" in found
    assert len(found) <= MOST_CALLS, found
