"""Arguments that several commands share: the plan, its settings, and a new output folder."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ..privacy.errors import PlanError

if TYPE_CHECKING:
    from ..privacy.plan.toml import Tables

DEFAULT = "digits-distributed-eps8"
"""The plan that a command uses if none is named."""


def find_plan(plan: Path | None) -> Path:
    """Return the plan's file: the file at that path, or else the packaged plan of that name.

    Raises:
        PlanError: neither exists.
    """
    plan = plan or Path(DEFAULT)
    shipped = {path.stem: path for path in Path(str(files("bract.simulations.experiments"))).glob("*.toml")}
    name = plan.name.removesuffix(".toml")
    if plan.exists() or (len(plan.parts) > 1 and name not in shipped):
        return plan
    if len(plan.parts) == 1 and name in shipped:
        return shipped[name]
    close = get_close_matches(name, shipped, 1)
    hint = f"did you mean {close[0]}?" if close else f"give a .toml file, or one of {', '.join(sorted(shipped))}"
    raise PlanError(f"there is no plan file {plan}", hint)


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


def check_new(folder: Path, hint: str) -> None:
    """Refuse an output folder that is a file or is not empty.

    Raises:
        PlanError: as above.
    """
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"{folder} is a file, --out takes a folder", "name a folder that is not there yet")
    if folder.exists() and any(folder.iterdir()):
        raise PlanError(f"{folder} is not empty", hint)


def free_folder(name: str) -> Path:
    """Return the first of runs/name-001, runs/name-002, ... that does not exist."""
    number = 1
    while (folder := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return folder
