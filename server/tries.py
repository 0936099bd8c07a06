"""How a round that came to nothing is tried again: how often, after what pause, and whom it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .answers import Unfinished
from .exchange import wait


class Tries:
    """The tries in a row that came to nothing.

    `refusing` and `wrong` are the nodes that refused, or answered wrongly, in any of them: the first are not asked
    again, the others only if there are too few without them.
    """

    def __init__(self, pauses: Sequence[float], say: Callable[[str], None]) -> None:
        self._pauses, self._say = pauses, say
        self._failed = 0
        self.refusing: set[int] = set()
        self.wrong: set[int] = set()

    def succeeded(self) -> None:
        """Begin to count anew: a round was released."""
        self._failed = 0
        self.refusing.clear()
        self.wrong.clear()

    def failed(self, fault: Unfinished, round: int, last: int) -> None:
        """Say what becomes of a round of the `last` that are planned, and wait until the next try.

        Raises:
            Unfinished: there is none, for there were enough, or all that were asked refuse.
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
            self._say(f"the run has {last} rounds, lost ones among them: it ends a release early, within its budget")
        else:
            self._say(f"round {round} is lost and charged; it was the last one planned")
            return
        wait(pause)
