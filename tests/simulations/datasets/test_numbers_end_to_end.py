"""Numbers to predict from `bract partition` to a device that trains on them, and records that are reconstructed."""

import numpy as np
import pytest
import torch

from bract.client.records import fitting, read_records
from bract.models import NETWORKS, Network
from bract.models.networks.autoencoder import autoencoder
from bract.models.objectives import RECONSTRUCTION
from bract.privacy import DataError
from bract.privacy.npz import read_arrays
from bract.server.evaluation.evaluate import make_evaluate
from bract.simulations.population import make_population
from bract.simulations.run import simulate, to_json
from bract.simulations.shards import write_shards
from bract.simulations.study import make_study

CPU = torch.device("cpu")
TABLES = {
    "data": {"name": "diabetes", "split": "iid", "clients": 3, "shape": [10], "classes": 1},
    "model": {"name": "linear"},
    "training": {"batch_size": 354, "learning_rate": 0.1},
    "cohort": {"rounds": 40, "size": 3},
    "privacy": {"unit": "none", "sampling_rate": 1.0, "delta": 1e-4},
    "server": {"evaluate_every": 40},
    "simulation": {"seed": 1},
}


def changed(**tables):
    return make_study({name: table | tables.get(name, {}) for name, table in TABLES.items()})


def test_a_device_reads_the_numbers_that_partition_wrote(tmp_path):
    study = changed(privacy={"unit": "record"})
    write_shards(study, tmp_path)
    population = make_population(study, CPU)
    for number in range(3):
        records = read_records(tmp_path / f"client-{number:03d}.npz", CPU)
        assert records.features.dtype == records.labels.dtype == torch.float32
        assert torch.equal(records.labels, population.client(number).labels)
        assert len(fitting(records, study)) == len(records)
    assert np.array_equal(read_arrays(tmp_path / "test.npz")[1], population.test.labels)


def test_a_federation_finds_the_line_of_least_squares(tmp_path):
    study = changed()
    result = simulate(study, tmp_path)
    population = make_population(study, CPU)
    train, test = population.records, population.test
    whole = np.column_stack([train.features.numpy(), np.ones(len(train))])
    weights = np.linalg.lstsq(whole, train.labels.numpy())[0]
    best = np.square(test.features @ weights[:-1] + weights[-1] - test.labels).mean()
    assert result.loss == pytest.approx(best, rel=0.05)
    assert to_json(result)["accuracy"] is None


def test_numbers_are_trained_on_privately(tmp_path):
    result = simulate(
        changed(privacy={"unit": "record"}, cohort={"rounds": 2}, server={"evaluate_every": 1}), tmp_path
    )
    assert (result.rounds, result.accuracy) == (2, None)
    assert 0 < result.loss < 10


DIGITS = {"name": "digits", "shape": [1, 28, 28], "classes": 10}


@pytest.mark.parametrize(("data", "unit"), [({}, "none"), ({}, "record"), (DIGITS, "record")])
def test_records_are_reconstructed_whatever_their_labels(tmp_path, data, unit):
    study = changed(data=data, model={"name": "autoencoder"}, cohort={"rounds": 1}, privacy={"unit": unit})
    result = simulate(study, tmp_path)
    assert (result.rounds, result.accuracy) == (1, None)
    assert 0 < result.loss < 10


def test_the_loss_of_a_reconstruction_is_the_squared_error(monkeypatch):
    """The error is that of each record."""
    frozen = Network("autoencoder", lambda *like: autoencoder(*like).requires_grad_(False), RECONSTRUCTION)
    monkeypatch.setitem(NETWORKS, "autoencoder", frozen)
    features = np.random.default_rng(0).normal(size=(1500, 1, 2, 2)).astype(np.float32)
    study = changed(model={"name": "autoencoder"}, data={"shape": [1, 2, 2]})
    quality = make_evaluate(study, features, np.zeros(1500, dtype=np.int64))(np.zeros(study.parameters, np.float32))
    assert quality.loss == pytest.approx(np.square(features).mean(), rel=1e-5)


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_numbers_are_no_classes(model):
    with pytest.raises(DataError, match=f"the model {model} takes numbers with one label per record"):
        make_population(changed(model={"name": model}), CPU)


def test_classes_may_be_numbers_only_where_there_is_one():
    """They may be predicted as numbers."""
    with pytest.raises(DataError, match="digits has 10 classes, the plan says 1"):
        make_population(changed(data={"name": "digits", "shape": [1, 28, 28]}), CPU)
