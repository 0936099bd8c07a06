"""The answers of devices in one phase of a round, and the error of a round with too few answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from ..privacy import RoundError
from ..privacy.messages import BOXES, CONSENT, KEYS, SHARES, TRAIN, UNMASK, WHO
from ..privacy.server_view import Code
from .exchange import LATE, Answer

REFUSALS = frozenset({Code.PLAN, Code.REFUSED, Code.DATA, Code.ROSTER})
"""Codes of a device that refuses, and would refuse again."""

UNTOUCHED = REFUSALS | {Code.LOST, Code.SEALED}
"""Codes of a device that sent nothing that it can send only once in a round."""

STAGES = {
    WHO: "asked who they are",
    KEYS: "asked for keys",
    SHARES: "asked for shares of keys",
    BOXES: "asked whether their boxes open",
    TRAIN: "asked to train",
    CONSENT: "asked to sign the survivors",
    UNMASK: "asked to unmask the sum",
}
"""The request of each kind of message, in words."""

MOST_NAMES = 10
"""The most devices in one line of the log."""


class Answers:
    """The codes that nodes answered one kind of message with; LATE for those that did not answer in time."""

    def __init__(self, kind: str = TRAIN) -> None:
        self.kind = kind
        self._codes: dict[int, str] = {}

    def take(self, answer: Answer) -> None:
        """Add an answer."""
        self._codes[answer.node] = str(answer.code)

    def update(self, later: Answers) -> None:
        """Replace the codes of nodes that were asked again by their later ones."""
        self._codes |= later._codes

    @property
    def codes(self) -> dict[str, int]:
        """The number of devices for each code."""
        return dict(Counter(self._codes.values()))

    @property
    def late(self) -> set[int]:
        """The nodes that did not answer in time."""
        return self._of({LATE})

    @property
    def refusing(self) -> set[int]:
        """The nodes that refused and would refuse again."""
        return self._of(REFUSALS)

    @property
    def wrong(self) -> set[int]:
        """The nodes that failed, or whose answer was malformed."""
        return self._of({Code.FAILED, Code.MALFORMED})

    @property
    def untouched(self) -> set[int]:
        """The nodes that sent nothing that they can send only once in a round."""
        return self._of(UNTOUCHED)

    def _of(self, codes: Collection[str]) -> set[int]:
        return {node for node, code in self._codes.items() if code in codes}

    def __str__(self) -> str:
        counted = sorted((code, count) for code, count in self.codes.items() if code != LATE)
        words = [f"{count} said {code}" for code, count in counted]
        words += [f"{len(self.late)} late"] if self.late else []
        return ", ".join(words) or "nobody was asked"

    def lines(self, round: int, name: Callable[[int], str]) -> Iterator[str]:
        """Yield one line of text for each code other than OK, with the names of the nodes that answered it."""
        for code in sorted(set(self._codes.values()) - {str(Code.OK)}):
            verb = "late" if code == LATE else f"said {code}"
            yield f"round {round}, {STAGES[self.kind]}: {verb}: {_listed(sorted(map(name, self._of({code}))))}"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class RoundFailed(RoundError):
    """A round that failed before its sum was opened.

    `took_part` are the nodes that may have sent what they can send only once in a round; `paid` is whether the round
    was charged. In both cases the round is lost, else it may be tried again. `cohort` is the number of nodes in the
    round, `survivors` the number that answered, and `answers` their codes.
    """

    def __init__(
        self,
        what: str,
        hint: str,
        answers: Answers | None = None,
        took_part: Collection[int] = (),
        paid: bool = False,
        cohort: int = 0,
        survivors: int = 0,
    ) -> None:
        super().__init__(what, hint)
        self.answers = answers or Answers()
        self.took_part, self.paid = tuple(sorted(took_part)), paid
        self.cohort, self.survivors = cohort, survivors

    @property
    def lost(self) -> bool:
        """Whether only a round with another number can take its place."""
        return self.paid or bool(self.took_part)

    @property
    def hopeless(self) -> bool:
        """Whether all nodes that were asked refused, and would refuse again."""
        return bool(self.answers.codes) and all(code in REFUSALS for code in self.answers.codes)


def too_few(
    survivors: int,
    cohort: int,
    minimum: int,
    answers: Answers,
    what: str = "an update",
    took_part: Collection[int] = (),
    paid: bool = False,
) -> RoundFailed:
    """Return the error of a round with too few answers."""
    return RoundFailed(
        f"{survivors} of {cohort} devices sent {what}, the round needs {minimum} ({answers})",
        "nothing was released; look at the devices' own logs, then go on in the same folder",
        answers,
        took_part,
        paid,
        cohort,
        survivors,
    )
