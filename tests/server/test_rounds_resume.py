"""The round loop in a folder that was trained in before: what it goes on from, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from trainings import charged_rounds, grid, training

from bract.privacy import Ledger, Plan, StateError, SystemEntropy, mechanism_of
from bract.server.rounds import train
from bract.server.training import Outcome
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
Call = Callable[..., Any]


class TestResuming:
    def finished(self, make: Make, app: App, folder: Path, **tables: Any) -> Outcome:
        return train(grid(app), training(make(**tables), folder))

    def refusal(self, make: Make, folder: Path, **tables: Any) -> str:
        """The first line of the two-line StateError with which the folder is refused, before anything is offered."""

        def never(message: Message, context: Context) -> Message:
            raise AssertionError

        with pytest.raises(StateError) as caught:
            train(grid(never), training(make(**tables), folder))
        what, hint = str(caught.value).split("\n")
        assert hint.startswith("hint: ")
        return what

    def test_a_finished_training_asks_nobody_and_charges_nothing(
        self, make: Make, counter: App, tmp_path: Path
    ) -> None:
        first = self.finished(make, counter, tmp_path)

        def never(message: Message, context: Context) -> Message:
            raise AssertionError

        again = train(grid(never), training(make(), tmp_path))
        assert np.array_equal(again.state.model, first.state.model)
        assert again.records == first.records
        assert charged_rounds(tmp_path) == [1, 2, 3]

    @pytest.mark.parametrize(
        "tables",
        [
            {"privacy": {"clip_norm": 0.5}},
            {"privacy": {"epsilon": 9.0}},
            {"privacy": {"noise": "local"}},
            {"training": {"learning_rate": 0.1}},
            {"cohort": {"rounds": 4}},
        ],
    )
    def test_with_another_plan_is_refused(
        self, make: Make, counter: App, tmp_path: Path, tables: dict[str, Any]
    ) -> None:
        self.finished(make, counter, tmp_path)
        assert "another plan" in self.refusal(make, tmp_path, **tables)
        assert charged_rounds(tmp_path) == [1, 2, 3]

    def test_a_checkpoint_of_another_plan_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path / "a")
        self.finished(make, counter, tmp_path / "b", training={"learning_rate": 0.1})
        shutil.copy(tmp_path / "b" / "checkpoint.bract", tmp_path / "a" / "checkpoint.bract")
        assert "holds a run of another plan" in self.refusal(make, tmp_path / "a")

    @pytest.mark.parametrize("kept", [0, 1, 2, 3])
    def test_with_a_ledger_that_lost_lines_is_refused(
        self, make: Make, counter: App, tmp_path: Path, kept: int
    ) -> None:
        self.finished(make, counter, tmp_path)
        ledger = tmp_path / "ledger.jsonl"
        lines = ledger.read_text().splitlines(keepends=True)
        ledger.write_text("".join(lines[:kept]))
        assert "lost entries" in self.refusal(make, tmp_path)

    def test_with_a_ledger_of_another_run_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        """The other run has the same plan."""
        for name, seed in (("a", 1), ("b", 2)):
            train(grid(counter), training(make(), tmp_path / name, entropy=SeededEntropy(seed)))
        shutil.copy(tmp_path / "b" / "ledger.jsonl", tmp_path / "a" / "ledger.jsonl")
        assert "lost entries" in self.refusal(make, tmp_path / "a")

    def test_with_a_ledger_that_was_changed_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path)
        ledger = tmp_path / "ledger.jsonl"
        ledger.write_text(ledger.read_text().replace('"round":2', '"round":1'))
        assert "damaged at line 3" in self.refusal(make, tmp_path)

    def test_with_a_damaged_checkpoint_is_refused(self, make: Make, counter: App, tmp_path: Path) -> None:
        self.finished(make, counter, tmp_path)
        checkpoint = tmp_path / "checkpoint.bract"
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
        assert "checksum" in self.refusal(make, tmp_path)

    @pytest.mark.parametrize("entropy", [SystemEntropy(), SeededEntropy(5)])
    def test_from_an_older_checkpoint_or_none_never_spends_twice(
        self, make: Make, counter: App, tmp_path: Path, entropy: Any, spied: Call
    ) -> None:
        plan, opened = make(), []
        train(grid(counter), training(plan, tmp_path, entropy=entropy))
        (tmp_path / "checkpoint.bract").unlink()
        outcome = train(
            grid(counter), training(plan, tmp_path, entropy=entropy, mechanism=spied(plan, opened.append))
        )
        assert outcome.stopped is not None
        assert not opened
        assert charged_rounds(tmp_path) == [1, 2, 3]

    def test_while_another_process_trains_in_the_folder_is_refused(self, make: Make, tmp_path: Path) -> None:
        plan = make()
        tmp_path.mkdir(exist_ok=True)
        with Ledger(tmp_path / "ledger.jsonl", mechanism_of(plan).budget, plan.digest):
            assert "in use by another process" in self.refusal(make, tmp_path)
