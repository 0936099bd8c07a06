"""The request of a sweep, kept in its folder as `sweep.toml` so that the sweep can be resumed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...privacy import BractError, Entropy, PlanError, StateError
from ...privacy.plan.toml import Tables
from ...privacy.storage import replace_file
from ..study import Study, make_study
from .axes import Axis, Values, describe, points, put
from .private_selection import Repetitions, draw, make_repetitions

SWEEP_FILE = "sweep.toml"
NAMED = 3
"""The largest number of points that an error names."""


@dataclass(frozen=True)
class Selection:
    """Private selection: the law of the number of tries, its mean, and the drawn tries as (point, seed).

    On real data the drawn tries are secret; a study keeps them so that it can be resumed.
    """

    law: str
    tries: float
    drawn: tuple[tuple[int, int], ...] = ()

    def make_repetitions(self) -> Repetitions:
        """Return the law of the number of tries."""
        return make_repetitions(self.law, self.tries)


@dataclass(frozen=True)
class SweepRequest:
    """A plan's tables, the varied keys, and either the number of seeds per point or a private selection."""

    name: str
    tables: Tables
    axes: tuple[Axis, ...]
    seeds: int = 1
    selection: Selection | None = None


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: a point of the grid and a seed, both public. Runs are numbered from 1."""

    number: int
    point: int
    seed: int
    values: Values

    @property
    def folder(self) -> str:
        """The name of the run's folder inside the sweep's folder."""
        return f"run-{self.number:03d}"


def make_runs(request: SweepRequest) -> list[SweepRun]:
    """Return all runs by point and then by seed, or the drawn tries of a private selection."""
    grid, selection = points(request.axes), request.selection
    each = ((point, seed) for point in range(len(grid)) for seed in range(1, request.seeds + 1))
    chosen = each if selection is None else selection.drawn
    return [SweepRun(number, point, seed, grid[point]) for number, (point, seed) in enumerate(chosen, 1)]


def draw_tries(request: SweepRequest, entropy: Entropy) -> SweepRequest:
    """Return the request with the tries of its private selection drawn: their number, points and seeds."""
    if request.selection is None:
        return request
    law, grid = request.selection.make_repetitions(), len(points(request.axes))
    tries = draw(law, entropy.keystream("tries"))
    pairs = entropy.keystream("candidates").words(2 * tries).reshape(tries, 2)
    # The remainder's bias is 2^-64 times the number of points; every table format keeps integers of 53 bits.
    drawn = tuple((int(point % grid), int(seed >> 11)) for point, seed in pairs.tolist())
    return replace(request, selection=replace(request.selection, drawn=drawn))


def make_studies(request: SweepRequest) -> list[Study]:
    """Return the resolved study of every point of the grid, in order.

    Raises:
        PlanError: some points have faults; the error names all faults.
    """
    grid = points(request.axes)
    studies: list[Study] = []
    faults: dict[tuple[str, str], list[Values]] = {}
    for values in grid:
        try:
            studies.append(make_study(put(request.tables, values), request.name))
        except BractError as fault:
            faults.setdefault((fault.what, fault.hint), []).append(values)
    if faults:
        raise _refusal(faults, len(grid))
    return studies


def seeded(study: Study, seed: int) -> Study:
    """Return the study with another seed."""
    return study.model_copy(update={"simulation": study.simulation.model_copy(update={"seed": seed})})


def _refusal(faults: dict[tuple[str, str], list[Values]], grid: int) -> PlanError:
    count = sum(map(len, faults.values()))
    listed = [what if len(where) == grid else f"{what} (at {_places(where)})" for (what, _), where in faults.items()]
    points = "every point" if count == grid else f"{count} of {grid} points"
    start = f"{points} of the grid refused: " if grid > 1 else ""
    hints = {hint for _, hint in faults}
    return PlanError(
        start + "; ".join(listed),
        hints.pop() if len(hints) == 1 else "correct the plan, --over or --set, and try again",
    )


def _places(where: list[Values]) -> str:
    more = f" and {len(where) - NAMED} more" if len(where) > NAMED else ""
    return "; ".join(map(describe, where[:NAMED])) + more


def write_request(folder: Path, request: SweepRequest) -> None:
    """Write the request to the folder; only the owner can read it if it holds a private selection's tries.

    Raises:
        StorageError: the file cannot be written.
    """
    replace_file(folder / SWEEP_FILE, to_toml(request).encode(), private=request.selection is not None)


def read_request(folder: Path) -> SweepRequest:
    """Return the request of the sweep in this folder.

    Raises:
        PlanError: the folder holds no sweep.
        StateError: the file is damaged.
    """
    path = folder / SWEEP_FILE
    try:
        return from_toml(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _no_sweep(folder) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise StateError(f"{path} is damaged", "restore it from a copy, or choose another --out") from fault


def _no_sweep(folder: Path) -> PlanError:
    if (folder / "plan.toml").exists():
        return PlanError(
            f"{folder} holds no sweep", f"to resume the run in it, type: bract simulate --resume {folder}"
        )
    what = "is a file" if folder.is_file() else "holds no sweep" if folder.exists() else "is not there"
    return PlanError(f"{folder} {what}", "give the folder of a sweep, or start one: bract sweep PLAN --out DIR")


def same(request: SweepRequest, other: SweepRequest) -> bool:
    """Return whether two requests are equal except for their drawn tries."""
    plain = (replace(r, selection=r.selection and replace(r.selection, drawn=())) for r in (request, other))
    return next(plain) == next(plain)


def to_toml(request: SweepRequest) -> str:
    """Return the request as TOML text; `from_toml` reads back an equal request."""
    return "# What this sweep was asked for; `bract sweep --resume` goes by it.\n\n" + "\n".join(_tables(request))


def _tables(request: SweepRequest) -> Iterator[str]:
    yield _table("[sweep]", {"name": request.name, "seeds": request.seeds})
    for axis in request.axes:
        yield _table("[[over]]", {"key": axis.key, "values": axis.values})
    if s := request.selection:
        yield _table("[select]", {"law": s.law, "tries": s.tries, "drawn": s.drawn})
    for name, table in request.tables.items():
        yield _table(f"[plan.{name}]", table)


def _table(heading: str, table: dict[str, Any]) -> str:
    return f"{heading}\n" + "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    """Return a value as TOML: strings, numbers and lists are as in JSON, except that TOML escapes DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def from_toml(text: str) -> SweepRequest:
    """Return the request in TOML text.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, IndexError: the text holds no valid request.
    """
    found = tomllib.loads(text)
    sweep, select = found["sweep"], found.get("select")
    axes = tuple(Axis(str(axis["key"]), tuple(axis["values"])) for axis in found.get("over", []))
    request = SweepRequest(
        str(sweep["name"]), found.get("plan", {}), axes, int(sweep["seeds"]), select and _drawn(select)
    )
    make_runs(request)  # raises IndexError if a drawn point is not in the grid
    return request


def _drawn(select: dict[str, Any]) -> Selection:
    drawn = tuple((int(point), int(seed)) for point, seed in select["drawn"])
    return Selection(str(select["law"]), float(select["tries"]), drawn)
