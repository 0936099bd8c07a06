"""A training: its folder, its plan and its randomness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bract.privacy import Plan, SystemEntropy, mechanism_of
from bract.server.training import TrainingRun

Make = Callable[..., Plan]


def test_a_training_draws_from_the_operating_system(make: Make, tmp_path: Path) -> None:
    """Unless it is told otherwise; what it releases is its mechanism's, and its plan is the mechanism's too."""
    plan = make()
    training = TrainingRun(mechanism_of(plan), tmp_path)
    assert type(training.entropy) is SystemEntropy
    assert (training.run, training.roster) == (1, None)
    assert training.plan is mechanism_of(plan).plan


def test_all_its_files_lie_in_its_folder_under_unlike_names(make: Make, tmp_path: Path) -> None:
    training = TrainingRun(mechanism_of(make()), tmp_path)
    files = [training.ledger, training.checkpoint, training.metrics]
    assert {path.parent for path in files} == {tmp_path}
    assert len({path.name for path in files}) == 3


def test_a_training_cannot_be_given_another_plan_on_its_way(make: Make, tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        TrainingRun(mechanism_of(make()), tmp_path).plan = make()  # pyright: ignore[reportAttributeAccessIssue]
