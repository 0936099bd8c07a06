"""Where a run's plan comes from, and where its files go."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from ..privacy.errors import PlanError

DEFAULT = "digits-scattering-eps8"
"""The plan that a command uses if none is named."""


def shipped_plans() -> dict[str, Path]:
    """Return the files of the packaged plans by name."""
    paths = sorted(Path(str(files("bract.simulations.experiments"))).glob("*.toml"))
    return {path.stem: path for path in paths}


def find_plan(plan: Path | None) -> Path:
    """Return the plan's file: the file at that path, or else the packaged plan of that name.

    Raises:
        PlanError: neither exists.
    """
    plan = plan or Path(DEFAULT)
    shipped = shipped_plans()
    name = plan.name.removesuffix(".toml")
    if plan.exists() or (len(plan.parts) > 1 and name not in shipped):
        return plan
    if len(plan.parts) == 1 and name in shipped:
        return shipped[name]
    close = get_close_matches(name, shipped, 1)
    hint = f"did you mean {close[0]}?" if close else f"give a .toml file, or one of {', '.join(sorted(shipped))}"
    raise PlanError(f"there is no plan file {plan}", hint)


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
