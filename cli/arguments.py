"""What several verbs take: a plan by file or name, and a folder that nothing is in yet."""

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
"""The plan that is taken where none is named."""


def find_plan(plan: Path | None) -> Path:
    """Return the plan's file: the one at that path, else the plan of that name that ships with the package.

    Raises:
        PlanError: there is neither.
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
    """Return the tables of a plan's file with the settings put in, and the folder that its data.path starts from.

    `varied` are keys that will be set later, by what else was typed.
    """
    from ..privacy import override, read_tables
    from ..simulations.study import anchor

    typed = keys_of(settings)
    if both := [key for key in varied if key in typed]:
        raise PlanError(f"{both[0]} is in --set and in --over", "leave it out of one")
    return anchor(override(read_tables(plan), settings), plan, [*typed, *varied])


def keys_of(settings: Sequence[str]) -> list[str]:
    """Return the keys of settings such as `privacy.epsilon=4`.

    Raises:
        PlanError: one is there twice: which is meant cannot be known.
    """
    keys = [setting.partition("=")[0].strip() for setting in settings]
    if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise PlanError(f"{twice[0]} is set twice", "set each key once")
    return keys


def check_new(folder: Path, hint: str) -> None:
    """Refuse a folder for output that is a file, or has something in it.

    Raises:
        PlanError: it is no new folder.
    """
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"{folder} is a file, --out takes a folder", "name a folder that is not there yet")
    if folder.exists() and any(folder.iterdir()):
        raise PlanError(f"{folder} is not empty", hint)


def free_folder(name: str) -> Path:
    """Return the first of runs/name-001, runs/name-002, ... that is not there yet."""
    number = 1
    while (folder := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return folder
