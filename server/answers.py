"""Who answered what in one trip of a round, and what becomes of a round that too few answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from ..privacy import RoundError
from ..privacy.messages import BOXES, CONSENT, KEYS, SHARES, TRAIN, UNMASK, WHO, Code
from .exchange import LATE, Answer

REFUSALS = frozenset({Code.PLAN, Code.REFUSED, Code.DATA, Code.ROSTER})
"""Codes of a device that takes no part, and would say so again."""

UNTOUCHED = REFUSALS | {Code.LOST, Code.SEALED}
"""Codes of a device that gave nothing of what it gives but once a round."""

STAGES = {
    WHO: "asked who they are",
    KEYS: "asked for keys",
    SHARES: "asked for shares of keys",
    BOXES: "asked whether their boxes open",
    TRAIN: "asked to train",
    CONSENT: "asked to sign the survivors",
    UNMASK: "asked to take the masks off",
}
"""What each kind of message asks for, in words."""

MOST_NAMES = 10
"""The most devices that a line names."""


class Answers:
    """The nodes that answered one kind of message, by their codes; those that did not are LATE."""

    def __init__(self, kind: str = TRAIN) -> None:
        self.kind = kind
        self._codes: dict[int, str] = {}

    def take(self, answer: Answer) -> None:
        """Note what came of a request."""
        self._codes[answer.node] = str(answer.code)

    def update(self, later: Answers) -> None:
        """Take over what came of asking some of the nodes again."""
        self._codes |= later._codes

    @property
    def codes(self) -> dict[str, int]:
        """How many devices answered what."""
        return dict(Counter(self._codes.values()))

    @property
    def late(self) -> set[int]:
        """Those that gave no answer."""
        return self._of({LATE})

    @property
    def refusing(self) -> set[int]:
        """Those that will take no part however often they are asked."""
        return self._of(REFUSALS)

    @property
    def wrong(self) -> set[int]:
        """Those that failed, or answered with something else than they were asked for."""
        return self._of({Code.FAILED, Code.MALFORMED})

    @property
    def untouched(self) -> set[int]:
        """Those that gave nothing which they give but once a round."""
        return self._of(UNTOUCHED)

    def _of(self, codes: Collection[str]) -> set[int]:
        return {node for node, code in self._codes.items() if code in codes}

    def __str__(self) -> str:
        counted = sorted((code, count) for code, count in self.codes.items() if code != LATE)
        words = [f"{count} said {code}" for code, count in counted]
        words += [f"{len(self.late)} late"] if self.late else []
        return ", ".join(words) or "nobody was asked"

    def lines(self, round: int, name: Callable[[int], str]) -> Iterator[str]:
        """Yield in words, a line for each code, who did not do as asked."""
        for code in sorted(set(self._codes.values()) - {str(Code.OK)}):
            verb = "late" if code == LATE else f"said {code}"
            yield f"round {round}, {STAGES[self.kind]}: {verb}: {_listed(sorted(map(name, self._of({code}))))}"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class Unfinished(RoundError):
    """A round that came to nothing; nothing was opened.

    `took_part` are the nodes that may have given what they give but once a round, and `paid` says whether the round
    was charged. If either, the round is lost; else it may be tried again. `cohort` nodes were in it, and of
    `survivors` something came; `answers` say who answered what.
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
        """Whether the round can be tried again only under another number."""
        return self.paid or bool(self.took_part)

    @property
    def hopeless(self) -> bool:
        """Whether all that were asked refuse, and would refuse again."""
        return bool(self.answers.codes) and all(code in REFUSALS for code in self.answers.codes)


def too_few(
    survivors: int,
    cohort: int,
    minimum: int,
    answers: Answers,
    what: str = "an update",
    took_part: Collection[int] = (),
    paid: bool = False,
) -> Unfinished:
    """Return the error of a round that too few devices answered."""
    return Unfinished(
        f"{survivors} of {cohort} devices sent {what}, the round needs {minimum} ({answers})",
        "nothing was released; look at the devices' own logs, then go on in the same folder",
        answers,
        took_part,
        paid,
        cohort,
        survivors,
    )
