"""What the two ways to a round's sum, in the clear and under masks, have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from ...privacy import Mechanism, Sum
from ..answers import Answers
from ..exchange import wait


@dataclass(frozen=True)
class Link:
    """The way to the devices: the grid, the mechanism of the plan that they are offered, what is called when one has
    answered, what says something to an operator, and the seconds to wait before each further try."""

    grid: Grid
    mechanism: Mechanism
    answered: Callable[[], None]
    say: Callable[[str], None] = lambda line: None
    pauses: Sequence[float] = ()
    name: Callable[[int], str] = lambda node: f"node {node}"

    def tell(self, round: int, answers: Answers, name: Callable[[int], str] | None = None) -> None:
        """Say who did not do as asked."""
        for line in answers.lines(round, name or self.name):
            self.say(line)

    def tries(self, what: str) -> Iterator[None]:
        """Yield once for each try; before all but the first say `what` is done, and wait."""
        yield
        for number, pause in enumerate(self.pauses, 2):
            self.say(f"{what}, in {pause:g} s: try {number} of {len(self.pauses) + 1}")
            wait(pause)
            yield


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
    """A round's exact sum, paid for; the nodes that were asked and those in the sum, sorted; answers by code.

    `opening` counts the answers of those that were asked to take the masks off.
    """

    total: Sum
    cohort: Sequence[int]
    survivors: Sequence[int]
    codes: Mapping[str, int]
    opening: Mapping[str, int] = field(default_factory=dict[str, int])


class Collector(Protocol):
    """A way to a round's sum."""

    def prepared(self, round: int) -> list[int] | None:
        """Return the nodes that are ready for this round since the one before, or None to choose a cohort."""
        ...

    def collect(self, call: Call, cohort: Sequence[int]) -> Collected:
        """Return the sum over the cohort, paid for.

        Raises:
            Unfinished: too few devices answered; nothing was opened.
            BudgetError: the budget does not cover the release; nothing was opened.
        """
        ...
