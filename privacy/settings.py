"""The settings of a node and of a run: what is not known is refused, for a default would stand in for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from .errors import PlanError


def check_settings(given: Iterable[str], known: Sequence[str], whose: str) -> None:
    """Refuse settings that are not among the known ones.

    Raises:
        PlanError: there is one; it is named, with those that there are.
    """
    for name in sorted(set(given) - set(known)):
        close = get_close_matches(name, known, 1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise PlanError(f"the {whose} has an unknown setting {name!r}{meant}", f"it has {', '.join(known)}")
