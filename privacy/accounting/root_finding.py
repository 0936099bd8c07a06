"""Root finding for decreasing functions, with an error to one side only."""

from __future__ import annotations

from collections.abc import Callable


def crossing(excess: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Return a point at which a decreasing function is at most zero, at most `width` above its root.

    The function must be positive at `low` and at most zero at `high`. This is the method of false position with the
    Illinois rule: the value at an end that stays is halved, so both ends converge.

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
