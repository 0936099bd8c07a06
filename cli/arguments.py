"""Arguments that several commands share: the plan, its settings, and a new output folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..privacy.errors import PlanError
from ..simulations.places import DEFAULT, check_new, find_plan, free_folder

if TYPE_CHECKING:
    from ..privacy.plan.toml import Tables

__all__ = ["DEFAULT", "check_new", "find_plan", "free_folder", "keys_of", "read_asked"]


def read_asked(plan: Path, settings: Sequence[str], varied: Sequence[str] = ()) -> Tables:
    """Return a plan's tables with `settings` applied. They record the folder to which `data.path` is relative.

    `varied` are the keys of --over, which are set later.

    Raises:
        PlanError: a key is in `settings` twice, or also in `varied`.
    """
    from ..privacy import override, read_tables
    from ..simulations.study import anchor

    typed = keys_of(settings)
    if both := [key for key in varied if key in typed]:
        raise PlanError(f"{both[0]} is in --set and in --over", "leave it out of one")
    return anchor(override(read_tables(plan), settings), plan, typed, varied)


def keys_of(settings: Sequence[str]) -> list[str]:
    """Return the keys of settings such as `privacy.epsilon=4`.

    Raises:
        PlanError: a key is set twice.
    """
    keys = [setting.partition("=")[0].strip() for setting in settings]
    if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise PlanError(f"{twice[0]} is set twice", "set each key once")
    return keys
