"""The ServerApp, run as Flower runs it, on a LocalGrid."""

from __future__ import annotations

import gc
import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.supercore import log as flower_log

from bract.models import read_flat
from bract.privacy import BudgetError, DataError, Ledger, Plan, PlanError, RoundError, StateError, accept_plan
from bract.privacy.secagg.identity import new_identity, public_text, read_roster
from bract.server import app as app_file
from bract.server.app import main
from bract.server.model_file import load_model
from bract.server.state import read_checkpoint
from bract.server.training import TrainingRun
from bract.simulations.local_grid import LocalGrid

Make = Callable[..., Plan]


def context(**run_config: Any) -> Context:
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)


@pytest.fixture
def settings(make: Make, tmp_path: Path) -> dict[str, str]:
    """A run's configuration, all of it in files."""
    (tmp_path / "plan.toml").write_text(make().to_toml())
    np.savez(tmp_path / "test.npz", x=np.zeros((5, 1, 2, 2)), y=np.arange(5) % 3)
    return {
        "plan": str(tmp_path / "plan.toml"),
        "out": str(tmp_path / "out"),
        "test-data": str(tmp_path / "test.npz"),
    }


def test_a_run_trains_and_writes_its_model(make: Make, counter: Any, settings: dict[str, str]) -> None:
    main(LocalGrid(counter, 4), context(**settings))
    out = Path(settings["out"])
    state = read_checkpoint(out / "checkpoint.bract")
    assert state is not None
    assert state.round == 3
    assert np.array_equal(read_flat(load_model(out / "model.safetensors", make())), state.model)


def test_a_run_says_a_line_a_round(counter: Any, settings: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bract.server"):
        main(LocalGrid(counter, 4), context(**settings))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines[:3]] == ["round 1", "round 2", "round 3"]
    assert all("accuracy " in line and "%" in line and "4 of 4 devices" in line for line in lines[:3])


def test_a_lost_round_does_not_end_the_run(
    counter: Any,
    refusing: Any,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log says that it is lost."""
    monkeypatch.setattr(app_file, "PAUSES", (0.0, 0.0))
    asked: list[int] = []

    def app(message: Any, context: Context) -> Any:
        asked.append(context.node_id)
        broken = 4 < len(asked) <= 8 and len(asked) != 6  # all but one fail in round 2
        return (refusing(counter, {context.node_id}, "failed") if broken else counter)(message, context)

    with caplog.at_level(logging.WARNING, "bract.server"):
        main(LocalGrid(app, 4), context(**settings))
    said = [record.getMessage() for record in caplog.records]
    assert "round 2, asked to train: said failed: device 0, device 2, device 3" in said
    assert any(line.startswith("round 2: lost, nothing was released") for line in said)
    assert said[-2:] == [
        "2 releases of 3 planned: lost round 2",
        f"finished after round 3; the model is in {settings['out']}",
    ]
    assert (Path(settings["out"]) / "model.safetensors").exists()


def test_a_run_of_lost_rounds_alone_leaves_no_model(
    counter: Any, refusing: Any, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has failed."""
    monkeypatch.setattr(app_file, "PAUSES", (0.0,) * 9)
    app = refusing(counter, {2, 3, 4}, "failed")
    with pytest.raises(RoundError, match="all 3 rounds were lost"):
        main(LocalGrid(app, 4), context(**settings))
    assert not (Path(settings["out"]) / "model.safetensors").exists()


class Heard(logging.Handler):
    """Formats what a logger is told, as its console does."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += self.format(record).splitlines()


def reported(fault: Exception) -> list[str]:
    """What Flower's log says of a ServerApp that raised this, in the words of its `run_serverapp`."""
    flower, heard = logging.getLogger("flwr"), Heard()
    flower.addHandler(heard)
    try:
        flower_log(logging.ERROR, "%s raised an exception", "ServerApp", exc_info=fault)
    finally:
        flower.removeHandler(heard)
    return heard.lines


def test_a_fault_of_ours_is_two_lines_and_fails_the_run(counter: Any, settings: dict[str, str]) -> None:
    """An exception is all that makes Flower say that a run failed; its log then holds no traceback."""
    with pytest.raises(PlanError) as caught:
        main(LocalGrid(counter, 4), context(**(settings | {"plan": settings["plan"] + "x"})))
    what, hint = reported(caught.value)
    assert what == f"error: cannot read the plan {settings['plan']}x"
    assert hint.startswith("hint: ")


def test_a_fault_that_nobody_expected_keeps_its_traceback(counter: Any, settings: dict[str, str]) -> None:
    main(LocalGrid(counter, 4), context(**settings))
    with pytest.raises(KeyError) as caught:
        raise KeyError("where")
    assert any("Traceback" in line for line in reported(caught.value))


def test_a_run_that_its_budget_ends_says_so_instead_of_finished(
    make: Make, counter: Any, settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Two of four clients are there, and each may take part in two rounds."""
    plan = make(cohort={"size": 2, "rounds": 4, "deadline": 0.2})
    Path(settings["plan"]).write_text(plan.to_toml())
    with caplog.at_level(logging.WARNING, "bract.server"):
        main(LocalGrid(counter, 2), context(**settings))
    said = [record.getMessage() for record in caplog.records]
    assert said[2:] == [
        "stopped after round 2 of 4: every available client took part as often as planned",
        f"hint: plan for more rounds; the model of round 2 is in {settings['out']}",
    ]
    assert (Path(settings["out"]) / "model.safetensors").exists()


def test_a_run_ended_by_its_budget_at_once_leaves_no_model(
    counter: Any, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a round: it has failed."""

    def spent(self: Ledger, entry: object) -> None:
        raise BudgetError("the population's budget is used up", "stop here")

    monkeypatch.setattr(Ledger, "spend", spent)
    with pytest.raises(BudgetError, match="used up"):
        main(LocalGrid(counter, 4), context(**settings))
    assert not (Path(settings["out"]) / "model.safetensors").exists()


def test_no_hint_of_a_server_names_an_option_of_the_command() -> None:
    """Whoever reads a server's log, or a device's, cannot type --out or --resume."""
    named = re.compile(r"--(out|resume|json|quiet|seed)\b")
    root = Path(app_file.__file__).parents[1]
    for folder in ("server", "privacy", "client"):
        for path in sorted((root / folder).rglob("*.py")):
            assert not named.search(path.read_text()), path


@pytest.mark.parametrize("left", [("plan.toml",), ("plan.toml", "metrics.jsonl", "model.safetensors")])
def test_a_study_that_lost_its_ledger_does_not_start_at_zero(
    counter: Any, settings: dict[str, str], left: tuple[str, ...]
) -> None:
    """Ledger, checkpoint and note of the round under way were deleted: devices count on, by the study's id."""
    main(LocalGrid(counter, 4), context(**settings))
    out = Path(settings["out"])
    for path in out.iterdir():
        if path.name not in left:
            path.unlink()
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(StateError, match="but not its ledger"):
        main(LocalGrid(counter, 4), context(**settings))
    assert sorted(path.name for path in out.iterdir()) == before


def fails_from(app: Any, refusing: Any, number: int, code: str) -> Callable[[Any, Context], Any]:
    """An app that answers with a code from its message of this number on."""
    asked: list[int] = []

    def answer(message: Any, context: Context) -> Any:
        asked.append(context.node_id)
        wrong = {context.node_id} if len(asked) >= number else set[int]()
        return refusing(app, wrong, code)(message, context)

    return answer


@pytest.mark.parametrize("code", ["failed", "refused"])
def test_a_run_that_a_fault_ends_keeps_its_last_model(
    counter: Any,
    refusing: Any,
    settings: dict[str, str],
    code: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tries are used up, or all devices have spent what they may, in round 3: what two rounds released is a model."""
    monkeypatch.setattr(app_file, "PAUSES", ())
    with caplog.at_level(logging.WARNING, "bract.server"), pytest.raises(RoundError):
        main(LocalGrid(fails_from(counter, refusing, 9, code), 4), context(**settings))
    out = Path(settings["out"])
    [said] = [line for line in caplog.messages if "ends with a fault" in line]
    last = read_checkpoint(out / "checkpoint.bract")
    assert last is not None
    assert said == f"the run ends with a fault; the model of round {last.round} is in {out}"
    plan = accept_plan((out / "plan.toml").read_text()).plan
    assert np.array_equal(read_flat(load_model(out / "model.safetensors", plan)), last.model)


@pytest.mark.parametrize("number", [1, 5])
def test_a_fault_before_any_release_leaves_no_model(
    counter: Any, refusing: Any, settings: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers; or all but one of round 1 fail, so that it is lost, and nobody answers after."""
    monkeypatch.setattr(app_file, "PAUSES", (0.0,))
    app = refusing(fails_from(counter, refusing, number, "failed"), {2, 3, 4}, "failed")
    with pytest.raises(RoundError):
        main(LocalGrid(app, 4), context(**settings))
    assert not (Path(settings["out"]) / "model.safetensors").exists()


def test_without_test_data_the_quality_is_not_measured(
    counter: Any, settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bract.server"):
        main(LocalGrid(counter, 4), context(**(settings | {"test-data": ""})))
    assert "quality not measured" in caplog.records[0].getMessage()


@pytest.mark.parametrize("name", ["plan", "out"])
@pytest.mark.parametrize("value", ["", None])
def test_a_missing_setting_is_named(counter: Any, settings: dict[str, str], name: str, value: str | None) -> None:
    changed = {key: text for key, text in settings.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(PlanError, match=f"the run has no {name}") as caught:
        main(LocalGrid(counter, 4), context(**changed))
    assert f"--run-config '{name}=" in caught.value.hint


@pytest.fixture
def secure(make: Make, settings: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The configuration of a run with secure aggregation, and a roster."""
    plan = make(aggregation={"protocol": "secagg"})
    Path(settings["plan"]).write_text(plan.to_toml())
    roster = tmp_path / "roster.toml"
    roster.write_text(f'[devices]\none = "{public_text(new_identity().public)}"\n')
    return settings | {"roster": str(roster)}


@pytest.mark.parametrize("value", ["", None])
def test_a_run_with_secure_aggregation_needs_a_roster(
    counter: Any, secure: dict[str, str], value: str | None
) -> None:
    changed = {key: text for key, text in secure.items() if key != "roster"}
    with pytest.raises(PlanError, match="the run has no roster"):
        main(LocalGrid(counter, 4), context(**changed, **({} if value is None else {"roster": value})))
    assert not Path(secure["out"]).exists()


def test_an_unreadable_roster_is_refused_before_the_training(counter: Any, secure: dict[str, str]) -> None:
    Path(secure["roster"]).write_text("[devices]\n")
    with pytest.raises(DataError, match="roster"):
        main(LocalGrid(counter, 4), context(**secure))
    assert not Path(secure["out"]).exists()


def test_run_and_roster_reach_the_training(
    counter: Any, secure: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are bound to Flower's number of the run, so that none of another run's fits."""
    given: list[TrainingRun] = []

    def watched(grid: Any, training: TrainingRun) -> Any:
        given.append(training)
        raise RuntimeError

    monkeypatch.setattr(app_file, "train", watched)
    run = context(**secure)
    run.run_id = 77
    with pytest.raises(RuntimeError):
        main(LocalGrid(counter, 4), run)
    assert given[0].run == 77
    assert given[0].roster == read_roster(Path(secure["roster"]))


def test_a_plan_that_protects_nobody_is_refused(counter: Any, settings: dict[str, str]) -> None:
    plan = Path(settings["plan"])
    plan.write_text(plan.read_text().replace('unit = "record"', 'unit = "none"'))
    with pytest.raises(PlanError):
        main(LocalGrid(counter, 4), context(**settings))
    assert not Path(settings["out"]).exists()


def test_a_missing_plan_is_refused_in_two_lines(counter: Any, settings: dict[str, str]) -> None:
    with pytest.raises(PlanError):
        main(LocalGrid(counter, 4), context(**(settings | {"plan": settings["plan"] + "x"})))


def without_y(path: Path) -> None:
    np.savez(path, x=np.zeros((5, 1, 2, 2)))


def of_words(path: Path) -> None:
    np.savez(path, x=np.array(["a"]), y=np.zeros(1))


def pickled(path: Path) -> None:
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))


def with_training_data(path: Path) -> None:
    x, y = np.zeros((5, 1, 2, 2)), np.arange(5) % 3
    np.savez(path, x=x, y=y, x_test=x, y_test=y)


def with_a_missing_value(path: Path) -> None:
    x = np.zeros((5, 1, 2, 2))
    x[3, 0, 1, 1] = np.nan
    np.savez(path, x=x, y=np.arange(5) % 3)


@pytest.mark.parametrize(
    "damage", [Path.unlink, without_y, of_words, pickled, with_training_data, with_a_missing_value]
)
def test_unreadable_test_data_are_refused_before_the_training(
    counter: Any, settings: dict[str, str], damage: Callable[[Path], None]
) -> None:
    damage(Path(settings["test-data"]))
    with pytest.raises(DataError, match="test data"):
        main(LocalGrid(counter, 4), context(**settings))
    assert not Path(settings["out"]).exists()


def test_torn_test_data_are_refused_and_closed(counter: Any, settings: dict[str, str]) -> None:
    path = Path(settings["test-data"])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises((DataError, BadZipFile)) as caught:
        main(LocalGrid(counter, 4), context(**settings))
    kind = caught.type
    left_open = sum(Path(f"/proc/self/fd/{number}").resolve() == path for number in os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del caught
        gc.collect()
    assert kind is DataError
    assert not left_open


@pytest.mark.parametrize("shape", [(5, 1, 3, 3), (4, 1, 2, 2)])
def test_test_data_that_do_not_fit_are_refused_before_a_charge(
    counter: Any, settings: dict[str, str], shape: tuple[int, ...]
) -> None:
    np.savez(settings["test-data"], x=np.zeros(shape), y=np.arange(5) % 3)
    with pytest.raises(DataError):
        main(LocalGrid(counter, 4), context(**settings))


def test_a_run_in_the_same_folder_goes_on_where_one_ended(counter: Any, settings: dict[str, str]) -> None:
    """It goes on from the last one's checkpoint."""
    main(LocalGrid(counter, 4), context(**settings))
    ledger = Path(settings["out"]) / "ledger.jsonl"
    before = ledger.read_text()
    main(LocalGrid(counter, 4), context(**settings))
    assert ledger.read_text() == before
