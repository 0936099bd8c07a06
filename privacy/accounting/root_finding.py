"""Where a falling function crosses zero, from above: its result errs to one side only."""

from __future__ import annotations

from collections.abc import Callable


def crossing(excess: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Return a point, at most `width` beyond the crossing, at which a falling function is at most zero.

    It must be above zero at `low` and at most zero at `high`. The search follows the line between the two; the value
    at an end that stays is halved (the Illinois rule), so both ends close in.

    Reference: Dowell, Jarratt 1971.
    """
    above, below, last = excess(low), excess(high), 0
    while high - low > width:
        guess = low + (high - low) * above / (above - below)
        guess = min(max(guess, low + width / 2), high - width / 2)
        if (value := excess(guess)) > 0:
            low, above, below, last = guess, value, below / (2 if last > 0 else 1), 1
        else:
            high, below, above, last = guess, value, above / (2 if last < 0 else 1), -1
    return high
