"""A whole training of the generative network: private or not, repeatable, resumed, and what its report shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bract.client.clipping.engine import make_engine
from bract.client.records import Records
from bract.models import build, count_parameters, load_flat, objective_of
from bract.models.networks.gan import Gan
from bract.privacy import override, read_tables
from bract.server import rounds
from bract.server.evaluation.gan_quality import figures, trained
from bract.server.state import ServerState, read_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study

SHAPE = (1, 12, 12)
GAN = ["model.name=gan", "training.learning_rate=0.1", "privacy.noise_multiplier=3"]
CELLS = {
    "central": ["privacy.noise=central"],
    "distributed": ["privacy.noise=distributed", "aggregation.protocol=secagg", "cohort.rounds=2"],
    "local": ["privacy.noise=local", "training.local_steps=2"],
    "client": ["privacy.unit=client", "privacy.noise=central", "privacy.sampling_rate=1"],
    "none": ["privacy.unit=none"],
}


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(override(read_tables(plan), [*GAN, *settings]))


def state_in(folder: Path) -> ServerState:
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    return state


class Killed(Exception):
    """The run was cut off."""


class Killer:
    """An observer that cuts a run off after a round."""

    def started(self, state, ledger) -> None: ...

    def answered(self) -> None: ...

    def finished_round(self, record) -> None:
        if record.round == 2:
            raise Killed


@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_moves_only_the_discriminator_by_data(cell: str, tiny_plan: Path, tmp_path: Path) -> None:
    """The generator moves without data."""
    study = study_of(tiny_plan, *CELLS[cell])
    result = simulate(study, tmp_path)
    state, mask = state_in(tmp_path), trained(build("gan", SHAPE, 3))
    assert result.rounds == study.cohort.rounds
    assert len(state.parameters) == len(mask) == count_parameters("gan", SHAPE, 3)
    assert np.isfinite(state.parameters).all()
    page = (tmp_path / "report.html").read_text()
    assert "Generated samples" in page
    assert page.count("<path d=") > 1
    assert (result.epsilon["released"] is None) == (cell == "none")


def test_noise_in_the_generators_lanes_never_gets_there(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise in its lanes made a thousand times larger changes no bit of any later model."""
    study, mask = study_of(tiny_plan, "server.optimizer=adam"), trained(build("gan", SHAPE, 3))
    simulate(study, tmp_path / "a")
    release = rounds._release

    def louder(*parts):
        released, noise = release(*parts)
        assert np.abs(released.vector[~mask]).max() > 0
        return type(released)(np.where(mask, 1, 1000) * released.vector), noise

    monkeypatch.setattr(rounds, "_release", louder)
    simulate(study, tmp_path / "b")
    assert np.array_equal(state_in(tmp_path / "a").parameters, state_in(tmp_path / "b").parameters)


def test_a_seeded_run_that_was_cut_off_ends_as_a_whole_one(tiny_plan: Path, tmp_path: Path) -> None:
    study = study_of(tiny_plan, "server.averaging=0.9")
    simulate(study, tmp_path / "whole")
    with pytest.raises(Killed):
        simulate(study, tmp_path / "cut", Killer())
    torch.manual_seed(9)
    simulate(study, tmp_path / "cut")
    whole, cut = state_in(tmp_path / "whole"), state_in(tmp_path / "cut")
    assert np.array_equal(whole.parameters, cut.parameters)
    assert np.array_equal(whole.model, cut.model)


@pytest.mark.parametrize("engine", ["auto", "opacus"])
@pytest.mark.parametrize("clip_norm", [0.05, 1e3])
def test_clipped_sums_are_those_of_a_loop_over_records(engine: str, clip_norm: float) -> None:
    """And zeros for the generator."""
    model, loss = build("gan", SHAPE, 3, 0), objective_of("gan", SHAPE).loss
    x = torch.rand(37, *SHAPE, generator=torch.Generator().manual_seed(0))
    total, weights = np.zeros(count_parameters("gan", SHAPE, 3)), [p for p in model.parameters() if p.requires_grad]
    mask = trained(model)
    for row in x:
        gradients = torch.autograd.grad(loss(model(row[None]), torch.zeros(1)).sum(), weights)
        gradient = torch.cat([g.flatten() for g in gradients]).double().numpy()
        total[mask] += gradient * min(1.0, clip_norm / np.linalg.norm(gradient))
    found = make_engine(model, clip_norm, loss, engine).clipped_sum(Records(x, torch.zeros(37)))  # type: ignore[arg-type]
    assert np.allclose(found, total, rtol=1e-4, atol=1e-5 * np.abs(total).max())
    assert not found[~mask].any()


def test_without_privacy_the_generator_comes_nearer_to_the_data(tiny_plan: Path, tmp_path: Path) -> None:
    squares = np.random.default_rng(0).uniform(0, 0.3, (60, *SHAPE)).astype(np.float32)
    squares[:, :, 3:9, 3:9] += 0.7
    np.savez(tmp_path / "squares.npz", x=squares, y=np.arange(60) % 3, client=np.repeat(np.arange(6), 10))
    settings = ["privacy.unit=none", "cohort.rounds=60", "server.optimizer=adam", "server.learning_rate=2e-3"]
    simulate(study_of(tiny_plan, *settings, f'data.path="{tmp_path}/squares.npz"'), tmp_path / "run")
    model, state = build("gan", SHAPE, 3, 0), state_in(tmp_path / "run")
    assert isinstance(model, Gan)
    untrained = figures(model, squares)
    load_flat(model, state.model)
    assert figures(model, squares)["distance"] < untrained["distance"] / 4
