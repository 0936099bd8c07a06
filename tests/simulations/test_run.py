"""A simulation end to end: what it protects with, what it leaves out, and what population it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bract.client.records import Records
from bract.client.train import Task
from bract.models import build, read_flat
from bract.privacy import DataError, Keystream, Sum, SystemEntropy, override, read_tables
from bract.server.round_log import RoundRecord
from bract.simulations.population import make_population
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study, mechanism_for
from bract.simulations.unprotected import open_contribution

CPU = torch.device("cpu")


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(override(read_tables(plan), settings))


class Watcher:
    """Counts what an observer is told."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.answers = 0
        self.rounds: list[RoundRecord] = []

    def started(self, state, ledger) -> None:
        self.began.append(state.round)

    def answered(self) -> None:
        self.answers += 1

    def finished_round(self, record: RoundRecord) -> None:
        self.rounds.append(record)


def test_an_observer_is_told_of_every_device_and_round(tiny_plan: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    result = simulate(study_of(tiny_plan), tmp_path / "run", watcher)
    assert watcher.began == [0]
    assert watcher.answers == 3 * 5
    assert [record.round for record in watcher.rounds] == [1, 2, 3]
    assert all(record.codes == {"ok": 5} for record in watcher.rounds)
    assert result.accuracy == result.figures["accuracy"] == watcher.rounds[-1].figures["accuracy"]


def test_epsilon_grows_from_round_to_round_up_to_the_budget(tiny_plan: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    simulate(study_of(tiny_plan, "privacy.noise=local"), tmp_path / "run", watcher)
    spent = [record.epsilon["server"] for record in watcher.rounds]
    assert spent == sorted(spent)
    assert spent[0] > 0
    assert 7.9 < spent[-1] <= 8.0


def test_part_cohorts_spend_no_more_than_the_budget(tiny_plan: Path, tmp_path: Path) -> None:
    study = study_of(tiny_plan, "cohort.size=2", "cohort.rounds=5")
    watcher = Watcher()
    result = simulate(study, tmp_path / "run", watcher)
    assert result.rounds == 5
    assert study.participations == 2
    assert result.epsilon["released"] <= study.privacy.epsilon
    assert {record.survivors for record in watcher.rounds} == {2}


@pytest.mark.parametrize("noise", ["central", "local"])
def test_more_budget_learns_what_no_protection_learns(noise: str, tiny_plan: Path, tmp_path: Path) -> None:
    """At a vast epsilon the private run and the unprotected one take the same steps but for the clip and a breath."""
    common = [f"privacy.noise={noise}", "privacy.clip_norm=1000", "privacy.sampling_rate=1", "cohort.rounds=2"]
    common += ["training.learning_rate=0.1", f"training.batch_size={50 if noise == 'central' else 10}"]
    vast = ["privacy.epsilon=1e300", "privacy.noise_multiplier=1e-6"]
    private = simulate(study_of(tiny_plan, *common, *vast), tmp_path / "p")
    open_ = simulate(study_of(tiny_plan, *common, "privacy.unit=none"), tmp_path / "o")
    assert private.loss == pytest.approx(open_.loss, rel=0.02)
    assert open_.epsilon == {"server": None, "released": None}


def test_unprotected_sums_are_plain_gradient_sums(tiny_plan: Path) -> None:
    study = study_of(tiny_plan, "privacy.unit=none", "privacy.sampling_rate=1")
    data = Records(torch.randn(7, 1, 12, 12), torch.arange(7) % 3)
    model = build("cnn", (1, 12, 12), 3, seed=1)
    mechanism = mechanism_for(study)
    task = Task(mechanism, read_flat(model), data, SystemEntropy().keystream)
    total = open_contribution(task)
    torch.nn.functional.cross_entropy(model(data.features), data.labels, reduction="sum").backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()
    assert np.allclose(total.vector * mechanism.grid.step, expected, rtol=1e-4, atol=1e-6)
    release = mechanism.release(Sum(total.vector), 1, Keystream(bytes(32)))[0]
    assert np.allclose(release.vector, -study.training.learning_rate * expected / 25, rtol=1e-4, atol=1e-6)


def test_an_unprotected_device_without_a_sample_sends_zeros(tiny_plan: Path) -> None:
    for noise in ("central", "local"):
        study = study_of(tiny_plan, "privacy.unit=none", "privacy.sampling_rate=1e-12", f"privacy.noise={noise}")
        parameters = read_flat(build("cnn", (1, 12, 12), 3, seed=1))
        few = Records(torch.randn(3, 1, 12, 12), torch.arange(3))
        task = Task(mechanism_for(study), parameters, few, SystemEntropy().keystream)
        assert not open_contribution(task).vector.any()


def test_the_population_holds_every_training_record_once(tiny_plan: Path, tiny_data: Path) -> None:
    """And no test record."""
    population = make_population(study_of(tiny_plan), CPU)
    with np.load(tiny_data) as arrays:
        images, owner = arrays["x"], arrays["client"]
    assert population.clients == 5
    for number in range(5):
        assert np.array_equal(population.client(number).features.numpy(), images[owner == number])
    assert np.array_equal(population.test.features, images[owner == 5])


def test_a_population_of_another_number_of_clients_is_refused(tiny_plan: Path) -> None:
    with pytest.raises(DataError, match="5"):
        make_population(study_of(tiny_plan, "data.clients=4", "cohort.size=4"), CPU)


def test_a_simulation_counts_the_records_that_the_plan_speaks_of(tiny_plan: Path) -> None:
    assert make_population(study_of(tiny_plan, "data.records=50"), CPU).clients == 5
    with pytest.raises(DataError, match=r"the data have 50 training records, data.records is 51"):
        make_population(study_of(tiny_plan, "data.records=51"), CPU)


def test_a_delta_too_large_for_the_records_is_refused_or_said(tiny_plan: Path, tmp_path: Path) -> None:
    """The plan's own numbers let it pass: 5 records a step, half of them in each, are 10."""
    data = np.load(tiny_plan.parent / "tiny.npz")
    many = {name: np.concatenate([data[name]] * 3) for name in ("x", "y", "client")}
    np.savez(tiny_plan.parent / "tiny.npz", **many)
    settings = ["training.batch_size=5", "privacy.delta=0.009"]
    with pytest.raises(DataError, match=r"privacy.delta 0.009 is 1/n or more, n = 150 training records"):
        make_population(study_of(tiny_plan, *settings), CPU)
    allowed = study_of(tiny_plan, *settings, "privacy.allow_large_delta=true", "data.records=150")
    simulate(allowed, tmp_path / "run")
    assert "One record out of all of them" in (tmp_path / "run" / "report.html").read_text()
