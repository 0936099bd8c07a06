"""The folder in which a simulation finds the module of one's own network: the one of its plan."""

from __future__ import annotations

import sys
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

from ..models import is_own
from ..privacy import PlanError
from ..privacy.plan.toml import Tables


def add_modules(tables: Tables) -> None:
    """Let Python find modules in the folder `simulation.modules` too, after all installed ones."""
    folder: Any = tables.get("simulation", {}).get("modules")
    if isinstance(folder, str) and folder not in sys.path:
        sys.path.append(folder)
        invalidate_caches()


def check_found(name: str, folder: str | None) -> None:
    """Refuse a network whose module was found elsewhere although `folder` has a module of that name.

    Raises:
        PlanError: another module of the same name comes before it.
    """
    module, place = name.partition(":")[0], Path(folder or "")
    own = place / module.partition(".")[0]
    if folder is None or not is_own(name) or not (own.is_dir() or own.with_suffix(".py").exists()):
        return
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is not None and not Path(file).resolve().is_relative_to(place.resolve()):
        raise PlanError(f"the module {module} is {file}, not the one in {folder}", "rename the one in that folder")
