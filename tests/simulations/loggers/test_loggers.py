"""Loggers: they see a closed list of public figures, and are found by name, file or entry point."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bract.cli.main import run
from bract.privacy import PlanError
from bract.server.evaluation.metrics import FIGURES
from bract.server.round_log import RoundRecord
from bract.simulations.loggers import base
from bract.simulations.loggers.base import ROUND_FIELDS, Logger, Observers, figures_of, open_logger
from bract.simulations.study import make_study

RECORD = RoundRecord(
    round=3,
    loss=0.5,
    figures={"accuracy": 0.75, "of one client": 1.0},
    epsilon={"server": None, "released": 1.5},
    cohort=5,
    survivors=4,
    codes={"ok": 4, "late": 1},
    seconds=2.5,
)


class Kept:
    """A logger that keeps what it is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.plan, self.rounds, self.ended = folder, dict[str, Any](), [], 0

    def begin(self, plan: Mapping[str, Any]) -> None:
        self.plan = dict(plan)

    def log(self, round: int, figures: Mapping[str, float]) -> None:
        self.rounds.append((round, dict(figures)))

    def end(self) -> None:
        self.ended += 1


def test_a_logger_sees_this_list_of_fields_and_nothing_else() -> None:
    """The server's public figures: none is about one client, one device's answer, or a record."""
    assert set(ROUND_FIELDS) - set(FIGURES) == {
        "loss",
        "epsilon_server",
        "epsilon_released",
        "cohort",
        "survivors",
        "seconds",
        "clip_norm",
        "lost",
    }
    found = figures_of(RECORD)
    assert set(found) <= set(ROUND_FIELDS)
    assert found == {
        "loss": 0.5,
        "epsilon_released": 1.5,
        "cohort": 5.0,
        "survivors": 4.0,
        "seconds": 2.5,
        "lost": 0.0,
        "accuracy": 0.75,
    }


def test_a_run_gives_a_logger_the_plan_and_each_round(tiny_plan: Path, tmp_path: Path) -> None:
    import bract

    kept, seen = Kept(), []
    result = bract.simulate(tiny_plan, seed=1, out=tmp_path / "run", callbacks=[kept, seen.append])
    assert [number for number, _ in kept.rounds] == [1, 2, 3]
    assert [record.round for record in seen] == [1, 2, 3]
    assert kept.plan["data.classes"] == 3
    assert str(tmp_path) not in json.dumps(kept.plan)
    assert kept.ended == 1
    assert kept.rounds[-1][1]["accuracy"] == result.figures["accuracy"]


def test_a_logger_ends_also_when_the_run_fails() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError), Observers(make_study({}), kept, [kept]):  # pyright: ignore[reportArgumentType]
        raise ZeroDivisionError
    assert kept.ended == 1


def test_the_csv_has_a_line_a_round_also_after_a_resume(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--seed", "1", "--out", str(out), "--log", "csv", "--quiet"]) == 0
    rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
    assert list(rows[0]) == ["round", *ROUND_FIELDS]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [float(row["accuracy"]) for row in rows] == [line["figures"]["accuracy"] for line in lines]
    assert [row["epsilon_server"] for row in rows] == ["", "", ""]
    again = open_logger("csv", out)
    again.begin({})
    again.log(4, {"loss": 1.0})
    assert len((out / "rounds.csv").read_text().splitlines()) == 1 + 3 + 1


def test_a_logger_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("somebodys_loggers")
    module.Kept = Kept  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "somebodys_loggers", module)
    point = EntryPoint("kept", "somebodys_loggers:Kept", base.GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [point] if group == base.GROUP else [])
    found = open_logger("kept", tmp_path)
    assert isinstance(found, Kept)
    assert isinstance(found, Logger)
    assert found.folder == tmp_path


def test_an_unknown_logger_and_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlanError, match="there is no logger nothing"):
        open_logger("nothing", tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(PlanError, match="the logger mlflow needs the package mlflow"):
        open_logger("mlflow", tmp_path)


class Calls:
    """Stands for another package's client: keeps each call by name, and answers with itself."""

    def __init__(self) -> None:
        self.said: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.info = SimpleNamespace(run_id="one")
        self.experiment_id = "bract"

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **named: Any) -> Calls:
            self.said.append((name, values, named))
            return self

        return call

    def of(self, *names: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(values, named) for name, values, named in self.said if name in names]


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_each_service_gets_the_plan_and_the_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a double of the package: the packages themselves are extras that tests do not need."""
    calls = Calls()
    module: Any = ModuleType(name)
    if name == "mlflow":
        module.MlflowClient = lambda tracking_uri: calls
    else:
        for function in ("init", "log", "finish"):
            setattr(module, function, getattr(calls, function))
    monkeypatch.setitem(sys.modules, name, module)
    logger = open_logger(name, tmp_path)
    logger.begin({"privacy.epsilon": 4.0})
    logger.log(3, {"loss": 0.5})
    logger.end()
    text = str(calls.said)
    assert "privacy.epsilon" in text
    assert "'loss'" in text
    assert "3" in text
    assert calls.of("finish", "set_terminated")
    if name == "wandb":
        assert calls.of("init")[0][1]["mode"] == "offline"


def test_tensorboard_gets_each_figure_by_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    module: Any = ModuleType("torch.utils.tensorboard.writer")
    module.SummaryWriter = lambda place: calls
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", ModuleType("torch.utils.tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", module)
    logger = open_logger("tensorboard", tmp_path)
    logger.begin({"privacy.epsilon": 4.0})
    logger.log(3, {"loss": 0.5})
    logger.end()
    assert calls.of("add_scalar") == [(("loss", 0.5, 3), {})]
    assert calls.of("close")
