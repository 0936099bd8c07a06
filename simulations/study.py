"""The plan of a study: a `Plan`, the simulation's own settings, and the option to protect nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..models import NETWORKS, NoModuleError, NoNetworkError, count_parameters, is_own
from ..models.registry import Changed
from ..privacy import Entropy, Mechanism, Plan, PlanError, SystemEntropy, mechanism_of, parse_tables, read_tables
from ..privacy.accept import accept, check_ring
from ..privacy.plan.schema import MOST_SEED, Privacy, Section
from ..privacy.plan.toml import Tables, parse_plan
from ..server.network import check_trainable
from .modules import add_modules, check_found
from .seeded import SeededEntropy
from .unprotected import Unprotected
from .weights import with_weights


class Simulation(Section):
    """How the simulation runs. A seed makes the run repeatable, but its noise is then not secret.

    With `masks = false` a plan with secure aggregation runs without masks and keys: the sums, and so the model and
    the noise, are the same, and a round takes less time. A relative `data.path` starts from `folder`, which is set to
    the folder of the plan's file when the run starts. The plan's digest does not cover `folder`, and no device
    receives it. The same holds for `modules`, the folder in which the module of one's own network is found.
    """

    executor: Literal["serial"] = "serial"
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] | None = None
    masks: bool = True
    folder: str | None = None
    modules: str | None = None


class OpenPrivacy(Privacy):
    """The privacy table of a study. `unit = "none"` protects nobody.

    Without protection, `clip` still clips each record's gradient, or each client's change, to `clip_norm`.
    """

    unit: Literal["record", "client", "none"] = "record"  # pyright: ignore[reportIncompatibleVariableOverride]
    clip: Literal["record", "client"] | None = None

    @property
    def bounds_delta(self) -> bool:
        """As in a plan, but false with `unit = "none"`, where delta has no meaning."""
        return self.unit != "none" and super().bounds_delta


class Study(Plan, frozen=True):
    """A plan that a simulation runs. With `unit = "none"` it makes no privacy claim, and every output says so."""

    private_sections: ClassVar[frozenset[str]] = frozenset({"simulation"})

    privacy: OpenPrivacy = OpenPrivacy()  # pyright: ignore[reportIncompatibleVariableOverride]
    simulation: Simulation = Simulation()

    @property
    def protected(self) -> bool:
        """Whether the study makes a privacy claim."""
        return self.privacy.unit != "none"

    @property
    def secure(self) -> bool:
        """As in a plan, but false if the simulation leaves out the masks."""
        return super().secure and self.simulation.masks

    @property
    def entropy(self) -> Entropy:
        """The operating system's entropy, or keys derived from the study's seed if there is one."""
        seed = self.simulation.seed
        return SystemEntropy() if seed is None else SeededEntropy(seed)

    @property
    def data_path(self) -> Path | None:
        """The path of the data: absolute if `simulation.folder` is set, None if the plan gives no path."""
        return self._placed(self.data.path)

    @property
    def test_path(self) -> Path | None:
        """The path of the test data, as `data_path`."""
        return self._placed(self.data.test)

    def _placed(self, path: str | None) -> Path | None:
        return None if path is None else Path(self.simulation.folder or "") / os.path.expanduser(path)


@lru_cache(maxsize=64)
def mechanism_for(study: Study) -> Mechanism:
    """Return the mechanism of a study: its plan's, or `Unprotected`."""
    return mechanism_of(study) if study.protected else Unprotected(study)


def make_study(tables: Tables, name: str = "the plan") -> Study:
    """Return the study of these tables, with its noise multiplier filled in.

    Raises:
        PlanError: the tables have a fault, the plan is not accepted, the model does not exist or cannot be trained,
            or the simulation leaves out masks that the plan needs.
    """
    add_modules(tables)
    tables = with_weights(tables)
    study = parse_plan(tables, Study, name, _count)
    if study.protected and study.privacy.clip is not None:
        raise PlanError(
            f"privacy.clip is for plans that protect nobody: the unit {study.privacy.unit} clips by itself",
            "leave privacy.clip out, or set privacy.unit = none",
        )
    check_found(study.model.name, study.simulation.modules)
    if study.protected:
        study = study.with_noise_multiplier(accept(study).noise_multiplier)
    else:
        check_ring(mechanism_for(study))
    check_trainable(study)
    if study.privacy.shares == "xnoise" and not study.simulation.masks:
        raise PlanError(
            "privacy.shares = xnoise removes noise together with the masks that simulation.masks = false leaves out",
            "set simulation.masks = true, or privacy.shares = floor",
        )
    return study


def baseline_of(study: Study, records: int) -> Study:
    """Return the same study without noise, for comparison; `records` is how many its clients have together.

    It clips as the study does, because a learning rate that suits clipped gradients may be far too large for others.
    A clip norm that adapts is left out; the local steps of such a study are on Poisson samples of
    `training.batch_size` records on average.
    """
    tables = study.model_dump(mode="json", exclude_none=True)
    kept = ("noise", "delta", "sampling_rate", "clip_norm")
    privacy: dict[str, Any] = {key: value for key, value in tables["privacy"].items() if key in kept}
    if study.protected and not study.adaptive:
        privacy["clip"] = study.privacy.unit
    elif study.privacy.clip is not None:
        privacy["clip"] = study.privacy.clip
    if study.privacy.unit == "client":
        rate = min(1.0, study.training.batch_size * study.data.clients / records) if study.adaptive else 1.0
        privacy |= {"noise": "local", "sampling_rate": rate}
    tables["data"].pop("records", None)
    tables["aggregation"] = {"protocol": "sum"}
    if privacy["noise"] == "distributed":
        privacy["noise"] = "central"
    return make_study(tables | {"privacy": privacy | {"unit": "none"}})


def anchor(tables: Tables, plan: Path, typed: Iterable[str], varied: Iterable[str] = ()) -> Tables:
    """Return the tables with the folders that they need, as absolute paths.

    A relative `data.path` or `model.weights` starts from `simulation.folder`, and the module of one's own network is
    found in `simulation.modules`. If the command line sets (`typed`) or varies (`varied`) `data.path` or
    `model.name`, the folder for this key is the current one. Otherwise it is the value in the tables or, without one,
    the folder of the plan's file. A `model.weights` of the command line becomes an absolute path.
    """
    typed, varied = {*typed, *varied}, set(varied)
    simulation, folders = tables.get("simulation", {}), dict[str, str]()
    model = tables.get("model", {})
    if "model.weights" in typed and isinstance(model.get("weights"), str):
        tables = tables | {"model": model | {"weights": str(Path(model["weights"]).expanduser().resolve())}}
    has_path = "data.path" in typed or "path" in tables.get("data", {}) or "weights" in model
    has_module = "model.name" in varied or is_own(str(tables.get("model", {}).get("name", "")))
    for key, named, needed in (("folder", "data.path", has_path), ("modules", "model.name", has_module)):
        said = "" if named in typed and f"simulation.{key}" not in typed else simulation.get(key, "")
        start = Path.cwd() if {named, f"simulation.{key}"} & typed else plan.parent
        if needed:
            folders[key] = str((start / str(said)).resolve())
    return tables | {"simulation": simulation | folders} if folders else tables


def read_run(folder: Path) -> Study:
    """Return the study of a simulation that was started in the folder.

    Raises:
        PlanError: the folder holds no simulation. It may hold a sweep, a partition or a deployment.
    """
    path = folder / "plan.toml"
    if (folder / "sweep.toml").exists():
        raise PlanError(f"{folder} holds a sweep", f"go on with it: bract sweep --resume {folder}")
    if not path.exists():
        what = "is a file" if folder.is_file() else "holds no run to resume" if folder.exists() else "is not there"
        raise PlanError(f"{folder} {what}", "give the folder of a run, or start one: bract simulate PLAN --out DIR")
    tables = read_tables(path)
    if "simulation" not in tables:  # every simulation writes this table, and nothing else does
        raise PlanError(
            f"{folder} holds no simulation: its plan.toml belongs to a partition or a deployment",
            f"start a run of that plan: bract simulate {path} --out DIR",
        )
    return make_study(tables, str(path))


def _count(name: str, shape: tuple[int, ...], classes: int, start: Changed = None) -> int:
    try:
        return count_parameters(name, shape, classes, start)
    except NoModuleError as fault:
        what = f"install it, or put the module {name.partition(':')[0]} beside the plan"
        raise PlanError(fault.what, what) from fault
    except NoNetworkError as fault:
        known = f"set model.name to one of: {', '.join(sorted(NETWORKS))}"
        raise PlanError(fault.what, fault.hint if is_own(name) else known) from fault


@lru_cache(maxsize=8)
def accept_study(text: str, masks: bool = True) -> Mechanism:
    """Return the mechanism of a study, from its TOML text. Simulated devices accept an offered plan with it."""
    return mechanism_for(make_study(parse_tables(text) | {"simulation": {"masks": masks}}))
