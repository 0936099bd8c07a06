"""The interface of aggregation, which has two implementations: in the clear, and secure."""

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
class DeviceLink:
    """The link to the devices: the grid, and the mechanism of the plan that they are offered.

    `answered` is called for each answer, and `say` with messages for the operator. `pauses` are the seconds before
    each further try. `name` returns a node's name for the log.
    """

    grid: Grid
    mechanism: Mechanism
    answered: Callable[[], None]
    say: Callable[[str], None] = lambda line: None
    pauses: Sequence[float] = ()
    name: Callable[[int], str] = lambda node: f"node {node}"

    def tell(self, round: int, answers: Answers, name: Callable[[int], str] | None = None) -> None:
        """Report the devices whose answer was not OK."""
        for line in answers.lines(round, name or self.name):
            self.say(line)

    def tries(self, what: str) -> Iterator[None]:
        """Yield once for each try; before each further try, report `what` and wait."""
        yield
        for number, pause in enumerate(self.pauses, 2):
            self.say(f"{what}, in {pause:g} s: try {number} of {len(self.pauses) + 1}")
            wait(pause)
            yield


@dataclass(frozen=True, repr=False)
class RoundInput:
    """A round to aggregate: its number, and its parameters, float32 [parameters].

    `charge` takes the nodes in the release and returns once the charge is on disk; only then is a sum opened.
    `next_cohort` chooses the cohort of the next round, given the nodes of this one; it is empty after the last round.
    `scale` is the scale of the round's clip norm.
    """

    round: int
    parameters: NDArray[np.float32]
    charge: Callable[[Sequence[int]], None]
    next_cohort: Callable[[Sequence[int]], Sequence[int]]
    scale: float = 1.0


@dataclass(frozen=True, repr=False)
class RoundSum:
    """A round's exact sum, already charged; the sorted nodes that were asked and those in the sum; answers by code.

    `opening` counts the answers to the request to unmask.
    """

    total: Sum
    cohort: Sequence[int]
    survivors: Sequence[int]
    codes: Mapping[str, int]
    opening: Mapping[str, int] = field(default_factory=dict[str, int])


class Aggregator(Protocol):
    """A way to compute a round's sum."""

    def prepared(self, round: int) -> list[int] | None:
        """Return the nodes that the round before prepared for this one, or None if a cohort must be chosen."""
        ...

    def collect(self, call: RoundInput, cohort: Sequence[int]) -> RoundSum:
        """Return the sum over the cohort, after its charge.

        Raises:
            RoundFailed: too few devices answered; nothing was opened.
            BudgetError: the budget does not cover the release; nothing was opened.
        """
        ...
