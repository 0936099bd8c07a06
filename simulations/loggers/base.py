"""What a logger is, the closed list of what it sees, and how loggers are found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from ...privacy import Ledger, PlanError
from ...server.evaluation.metrics import FIGURES
from ...server.round_log import RoundRecord
from ...server.state import ServerState
from ...server.training import Observer
from ..study import Study

GROUP = "bract.loggers"
"""The group of entry points in which an installed package names its loggers."""

ROUND_FIELDS = (
    "loss",
    "epsilon_server",
    "epsilon_released",
    "cohort",
    "survivors",
    "seconds",
    "clip_norm",
    "lost",
    *FIGURES,
)
"""All that a logger sees of a round, by name: the server's public figures, without those that are not measured."""


@runtime_checkable
class Logger(Protocol):
    """Receives the plan once and the figures of each round; it cannot change the training."""

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Receive the plan's public keys, such as `privacy.epsilon`."""
        ...

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        """Receive the figures of a round, by the names in `ROUND_FIELDS`."""
        ...

    def end(self) -> None:
        """Receive the news that the run has ended, well or not."""
        ...


SHIPPED = {
    "csv": ".csv_file:CsvLogger",
    "mlflow": ".mlflow_store:MlflowLogger",
    "tensorboard": ".tensorboard_events:TensorboardLogger",
    "trackio": ".trackio_store:TrackioLogger",
    "wandb": ".wandb_offline:WandbLogger",
}
"""The loggers that come with bract by name; all except csv need a package of the same name."""

Open = Callable[[Path], Logger]
"""A logger's class, or a function, of the folder of the run."""


def find_logger(name: str) -> Open:
    """Return the class of a logger: one of bract's, or one that an installed package names in `bract.loggers`.

    Raises:
        PlanError: there is no such logger.
    """
    if name in SHIPPED:
        module, _, attribute = SHIPPED[name].partition(":")
        return getattr(import_module(module, __package__), attribute)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({*SHIPPED, *found}))
        raise PlanError(f"there is no logger {name}", f"name one of {known}, or install the package that has it")
    return found[name].load()


def open_logger(name: str, folder: Path) -> Logger:
    """Return a new logger by its name, for the run in a folder.

    Raises:
        PlanError: there is no such logger, or the package that it needs is not installed.
    """
    try:
        return find_logger(name)(folder)
    except ModuleNotFoundError as fault:
        hint = f"install it: pip install {fault.name}, or log with csv"
        raise PlanError(f"the logger {name} needs the package {fault.name}", hint) from None


def figures_of(record: RoundRecord) -> dict[str, float]:
    """Return what a logger sees of a round: finite figures by the names in `ROUND_FIELDS`, and nothing else."""
    found: dict[str, float | None] = {
        "loss": record.loss,
        "epsilon_server": record.epsilon.get("server"),
        "epsilon_released": record.epsilon.get("released"),
        "cohort": record.cohort,
        "survivors": record.survivors,
        "seconds": record.seconds,
        "clip_norm": record.clip_norm,
        "lost": float(record.lost),
        **{name: value for name, value in (record.figures or {}).items() if name in FIGURES},
    }
    return {name: float(value) for name, value in found.items() if value is not None}


class Observers(AbstractContextManager["Observers"]):
    """Forwards a training's progress to an observer, to loggers, and to functions of a round's record."""

    def __init__(
        self,
        study: Study,
        first: Observer,
        loggers: Sequence[Logger] = (),
        calls: Sequence[Callable[[RoundRecord], object]] = (),
    ) -> None:
        self._study, self._first, self._loggers, self._calls = study, first, loggers, calls

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        for logger in self._loggers:
            logger.end()

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Give each logger the plan's public keys."""
        self._first.started(state, ledger)
        tables = self._study.public()
        plan = {f"{name}.{key}": value for name, keys in tables.items() for key, value in keys.items()}
        plan.pop("data.path", None)
        for logger in self._loggers:
            logger.begin(dict(plan))

    def answered(self) -> None:
        """Forward the news to the observer alone: single answers are not for loggers."""
        self._first.answered()

    def said(self, line: str) -> None:
        """Forward the message to the observer alone."""
        self._first.said(line)

    def finished_round(self, record: RoundRecord) -> None:
        """Forward the round's record: loggers get its figures."""
        self._first.finished_round(record)
        for logger in self._loggers:
            logger.log(record.round, figures_of(record))
        for call in self._calls:
            call(record)
