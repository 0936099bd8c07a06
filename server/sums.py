"""What the two ways to a round's sum, in the clear and under masks, have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from ..privacy import Plan, RoundError, Sum
from .exchange import LATE


@dataclass(frozen=True)
class Link:
    """The way to the devices: the grid, the plan they are offered, and whom to tell that one has answered."""

    grid: Grid
    plan: Plan
    answered: Callable[[], None]


@dataclass(frozen=True, repr=False)
class Call:
    """One round to be summed: its number, the parameters, float32 [parameters], and how to pay for it.

    `scale` is that of the round's clip norm. `charge` takes the nodes in the release and returns
    once the charge is on disk; a sum is opened after that only.
    `following` chooses the cohort of the next round, given that these nodes take part in this one; it is empty after
    the last round.
    """

    round: int
    parameters: NDArray[np.float32]
    charge: Callable[[Sequence[int]], None]
    following: Callable[[Sequence[int]], Sequence[int]]
    scale: float = 1.0


@dataclass(frozen=True, repr=False)
class Collected:
    """A round's exact sum, paid for; the nodes that were asked and those in the sum, sorted; answers by code."""

    total: Sum
    cohort: Sequence[int]
    survivors: Sequence[int]
    codes: Mapping[str, int]


class Collector(Protocol):
    """A way to a round's sum."""

    def prepared(self, round: int) -> list[int] | None:
        """Return the nodes that are ready for this round since the one before, or None to choose a cohort."""
        ...

    def collect(self, call: Call, cohort: Sequence[int]) -> Collected:
        """Return the sum over the cohort, paid for.

        Raises:
            RoundError: too few devices answered; nothing was opened.
            BudgetError: the budget does not cover the release; nothing was opened.
        """
        ...


def said(codes: Counter[str]) -> str:
    """Return in words how many devices answered what."""
    words = [f"{count} said {code}" for code, count in sorted(codes.items()) if code != LATE]
    words += [f"{codes[LATE]} late"] if codes[LATE] else []
    return ", ".join(words) or "nobody was asked"


def too_few(survivors: int, cohort: int, minimum: int, codes: Counter[str], what: str = "an update") -> RoundError:
    """Return the error of a round that too few devices answered."""
    return RoundError(
        f"{survivors} of {cohort} devices sent {what}, the round needs {minimum} ({said(codes)})",
        "nothing was released; look at the devices' own logs, then go on in the same folder",
    )
