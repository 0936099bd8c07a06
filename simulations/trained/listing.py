"""Lists what there is to name: plans and networks and data sets that come with bract, and the runs in a folder."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from ...models import NETWORKS
from ...privacy import BractError, read_tables
from ..datasets import find_dataset, names
from ..loggers.base import GROUP, SHIPPED
from ..places import shipped_plans
from .run import read_finished


def list_all(folder: Path, kind: str | None = None) -> dict[str, dict[str, str]]:
    """Return the names of all kinds, or of one kind, with a few words on each; the runs are in `folder`."""
    kinds = {"plans": plans, "networks": networks, "data": data_sets, "loggers": loggers}
    found = {name: make() for name, make in kinds.items() if kind in (None, name)}
    return found | ({"runs": runs(folder)} if kind in (None, "runs") else {})


def plans() -> dict[str, str]:
    """Return the packaged plans by name, each with its data, network and budget."""
    return {name: _plan(path) for name, path in shipped_plans().items()}


def networks() -> dict[str, str]:
    """Return the networks by name, each with what it learns."""
    return {name: network.learns((28, 28)).name for name, network in sorted(NETWORKS.items())}


def data_sets() -> dict[str, str]:
    """Return the names that `data.name` may have, each with what it is."""
    return {name: find_dataset(name).summary for name in names()}


def loggers() -> dict[str, str]:
    """Return the names that `--log` takes: bract's loggers and those of installed packages."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    about = {name: "a file" if name == "csv" else f"needs the package {name}" for name in SHIPPED}
    return others | about


def runs(folder: Path) -> dict[str, str]:
    """Return the runs in a folder by path, each with its quality and epsilon, or the reason why it has no model."""
    found = sorted(path.parent for path in folder.glob("*/plan.toml")) if folder.is_dir() else []
    return {str(path): _run(path) for path in found}


def _plan(path: Path) -> str:
    tables = read_tables(path)
    privacy, data, model = (tables.get(name, {}) for name in ("privacy", "data", "model"))
    unit, noise = privacy.get("unit", "record"), privacy.get("noise", "central")
    budget = f"epsilon {privacy.get('epsilon', 8.0):g} for each {unit}, {noise} noise"
    return f"{model.get('name', 'cnn')} on {data.get('name', 'digits')}, {budget}"


def _run(folder: Path) -> str:
    try:
        run = read_finished(folder)
        score = next((record.score for record in reversed(run.records) if record.score), None)
        epsilon = run.epsilon or {}
    except BractError as fault:
        return fault.what.removeprefix(f"{folder} ")
    quality = f"{score.figure.name} {score}" if score else "quality not measured"
    spent = epsilon.get("released")
    cost = "nothing is protected" if not run.plan.protected else "" if spent is None else f"epsilon {spent:.3f}"
    about = f"{run.plan.model.name} on {run.plan.data.name}, {quality}"
    return f"{about}, {cost}" if cost else about
