"""What the tests of the mechanisms share: a function that makes small plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bract.privacy import Plan, make_plan


@pytest.fixture
def make() -> Callable[..., Plan]:
    """A function: a plan of two devices, with keys such as `privacy={"noise": "central"}`."""

    def plan(**tables: dict[str, Any]) -> Plan:
        sections: dict[str, dict[str, Any]] = {
            "data": {"clients": 2},
            "training": {"batch_size": 8, "learning_rate": 0.5},
            "cohort": {"rounds": 4, "size": 1},
            "privacy": {
                "noise": "local",
                "epsilon": 8.0,
                "delta": 1e-3,
                "sampling_rate": 0.5,
                "noise_multiplier": 3.0,
            },
        }
        return make_plan({name: sections.get(name, {}) | tables.get(name, {}) for name in {*sections, *tables}}, Plan)

    return plan
