"""The settings of a node and of a run. An unknown one is refused: a typo must not leave a default in force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from .errors import PlanError


def check_settings(given: Iterable[str], known: Sequence[str], whose: str) -> None:
    """Refuse settings that are not `known`.

    Raises:
        PlanError: a setting is unknown; the error names it and lists the known ones.
    """
    for name in sorted(set(given) - set(known)):
        close = get_close_matches(name, known, 1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise PlanError(f"the {whose} has an unknown setting {name!r}{meant}", f"it has {', '.join(known)}")
