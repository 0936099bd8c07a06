"""Retries of a failed round: their number, the pauses between them, and the nodes that they leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .answers import RoundFailed
from .exchange import wait


class Retries:
    """The failed tries since the last released round.

    `refusing` are the nodes that refused in any of these tries; they are not asked again. `wrong` are the nodes that
    failed or sent a malformed answer; they are asked again only if there are too few others.
    """

    def __init__(self, pauses: Sequence[float], say: Callable[[str], None]) -> None:
        self._pauses, self._say = pauses, say
        self._failed = 0
        self.refusing: set[int] = set()
        self.wrong: set[int] = set()

    def succeeded(self) -> None:
        """Reset after a released round."""
        self._failed = 0
        self.refusing.clear()
        self.wrong.clear()

    def failed(self, fault: RoundFailed, round: int, last: int) -> None:
        """Report the failure of a round, one of `last` planned rounds, and wait until the next try.

        Raises:
            RoundFailed: no tries are left, or all nodes that were asked refuse.
        """
        self.refusing |= fault.answers.refusing
        self.wrong |= fault.answers.wrong
        if self._failed == len(self._pauses) or fault.hopeless:
            raise fault
        pause = self._pauses[self._failed]
        self._failed += 1
        self._say(f"round {round}: {fault.what}")
        again = f"try {self._failed + 1} of {len(self._pauses) + 1}, in {pause:g} s"
        if not fault.lost:
            self._say(f"round {round} is tried again, nothing was charged: {again}")
        elif round < last:
            self._say(f"round {round} is lost and charged; round {round + 1} takes its place: {again}")
            self._say(f"the run has {last} rounds including lost ones: it makes one release fewer, within its budget")
        else:
            self._say(f"round {round} is lost and charged; it was the last one planned")
            return
        wait(pause)
