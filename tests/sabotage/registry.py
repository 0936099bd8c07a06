"""The list of sabotages. Each is a function that breaks one thing, for good: only a process of its own calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Break = Callable[[], None]


@dataclass(frozen=True)
class Sabotage:
    """What breaks, and the test below tests/ that must go red."""

    breaks: Break
    test: str


SABOTAGES: dict[str, Sabotage] = {}


def turns_red(test: str) -> Callable[[Break], Break]:
    """List the function as a sabotage that turns the test red. It imports what it breaks itself, not before."""

    def enter(breaks: Break) -> Break:
        assert breaks.__name__ not in SABOTAGES
        SABOTAGES[breaks.__name__] = Sabotage(breaks, test)
        return breaks

    return enter
