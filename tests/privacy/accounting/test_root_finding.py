"""Roots of a monotone function, met from the safe side."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.accounting.root_finding import crossing


@given(
    st.floats(-0.9, 0.9, allow_subnormal=False),
    st.sampled_from([1, 3, 7]),
    st.floats(-9, -2).map(lambda power: 10**power),
)
def test_the_root_is_met_from_beyond_within_the_width(root: float, power: int, width: float) -> None:
    """No farther beyond it than the width."""
    asked = []

    def excess(x: float) -> float:
        asked.append(x)
        return (root - x) ** power + (root - x) * 1e-3

    found = crossing(excess, -1.0, 1.0, width)
    assert excess(found) <= 0
    assert root <= found <= root + width + 1e-15
    assert all(-1 <= x <= 1 for x in asked)


def test_a_smooth_function_takes_few_steps() -> None:
    asked = []
    crossing(lambda x: asked.append(x) or math.exp(-x) - 0.3, 0.0, 5.0, 1e-8)
    assert len(asked) <= 14
