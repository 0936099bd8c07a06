from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bract.privacy import Plan, SystemEntropy
from bract.server.release import RELEASES
from bract.server.training import Training

Make = Callable[..., Plan]


def test_a_training_draws_from_the_operating_system_and_releases_with_noise_unless_told_otherwise(
    make: Make, tmp_path: Path
) -> None:
    training = Training(make(), tmp_path)
    assert type(training.entropy) is SystemEntropy
    assert training.releases is RELEASES
    assert (training.run, training.roster) == (1, None)
    assert {unit for unit, _ in training.releases} == {"record", "client"}
    assert {noise for _, noise in training.releases} == {"central", "distributed", "local"}


def test_all_its_files_lie_in_its_folder_each_under_a_name_of_its_own(make: Make, tmp_path: Path) -> None:
    training = Training(make(), tmp_path)
    files = [training.ledger, training.checkpoint, training.metrics]
    assert {path.parent for path in files} == {tmp_path}
    assert len({path.name for path in files}) == 3


def test_a_training_cannot_be_given_another_plan_on_its_way(make: Make, tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        Training(make(), tmp_path).plan = make()  # pyright: ignore[reportAttributeAccessIssue]
