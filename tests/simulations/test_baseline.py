"""The run to compare with: the same plan without its noise, clipped as the plan clips."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest

from bract.privacy import PlanError, override, read_tables
from bract.server.state import read_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import Study, baseline_of, make_study

NOISELESS = ["privacy.noise_multiplier=1e-6", "privacy.epsilon=1e15"]
CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("central", "local")]


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(override(read_tables(plan), settings))


def parameters(study: Study, folder: Path) -> np.ndarray:
    simulate(study, folder)
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    return state.parameters


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_it_trains_as_the_plan_does_without_noise(cell: tuple[str, str], tiny_plan: Path, tmp_path: Path) -> None:
    """Without its clip it would end elsewhere: the clip norm is far below the gradients."""
    unit, noise = cell
    how = [f"privacy.unit={unit}", f"privacy.noise={noise}", "privacy.clip_norm=0.01", "training.learning_rate=20"]
    how += (
        ["privacy.sampling_rate=1", "training.local_steps=2", "training.learning_rate=0.1"]
        if unit == "client"
        else []
    )
    study = study_of(tiny_plan, *how, *NOISELESS)
    plain = baseline_of(study, 50)
    assert (plain.protected, plain.privacy.clip) == (False, unit)
    expected, found = parameters(study, tmp_path / "plan"), parameters(plain, tmp_path / "plain")
    assert np.abs(found - expected).max() < 1e-3
    free = plain.model_copy(update={"privacy": plain.privacy.model_copy(update={"clip": None})})
    assert np.abs(parameters(free, tmp_path / "free") - expected).max() > 1e-2


def test_a_clip_norm_that_adapts_is_left_out(tiny_plan: Path) -> None:
    how = ["privacy.unit=client", "privacy.sampling_rate=1", "privacy.clip_quantile=0.5"]
    assert baseline_of(study_of(tiny_plan, *how), 50).privacy.clip is None


def test_a_plan_that_protects_somebody_has_no_such_key(tiny_plan: Path) -> None:
    with pytest.raises(PlanError, match="protect nobody"):
        study_of(tiny_plan, "privacy.clip=record")


@pytest.mark.parametrize("clip", [None, "record", "client"])
def test_card_and_report_say_what_is_clipped(clip: str | None, tiny_plan: Path, tmp_path: Path) -> None:
    how = ["privacy.unit=none", *([] if clip is None else [f"privacy.clip={clip}"])]
    simulate(study_of(tiny_plan, *how), tmp_path / "run")
    said = {
        None: ("neither clipped nor noised", "no clipping"),
        "record": ("record's gradient is clipped, but nothing is noised", "clipping by record"),
        "client": ("client's update is clipped, but nothing is noised", "clipping by client"),
    }
    card, report = ((tmp_path / "run" / name).read_text() for name in ("model.md", "report.html"))
    for key, (guarantee, mechanism) in said.items():
        assert (guarantee in card) == (guarantee in html.unescape(report)) == (key == clip)
        assert (mechanism in report) == (key == clip)
