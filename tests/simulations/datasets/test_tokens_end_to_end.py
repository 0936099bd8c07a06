"""Runs of tokens from `bract partition` to a device that trains on them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bract.cli.partition import partition
from bract.client.records import check_records, fitting, read_records
from bract.models import NETWORKS, Network
from bract.models.objectives import NEXT_TOKEN
from bract.privacy.npz import read_arrays
from bract.simulations.population import make_population
from bract.simulations.run import simulate
from bract.simulations.study import make_study

CPU = torch.device("cpu")
PLAY = "\n\n".join(f"**{'ABC'[n % 3]}**\n{'to be or not to be ' * (4 - n % 3)}" for n in range(9))


@pytest.fixture
def tables(put_plays, monkeypatch):
    """A plan over the two largest of three speakers, with a network that looks a character up."""
    monkeypatch.setitem(
        NETWORKS,
        "lookup",
        Network(
            "lookup",
            lambda shape, classes: nn.Sequential(nn.Embedding(classes, 8), nn.Linear(8, classes)),
            NEXT_TOKEN,
        ),
    )
    return {
        "data": {
            "name": "shakespeare",
            "path": str(put_plays(hamlet=PLAY)),
            "clients": 2,
            "shape": [8],
            "classes": 9,
        },
        "model": {"name": "lookup"},
        "training": {"batch_size": 10},
        "cohort": {"rounds": 2, "size": 2},
        "privacy": {"sampling_rate": 0.5, "delta": 1e-3},
        "simulation": {"seed": 1},
    }


def test_the_largest_clients_alone_take_part_and_are_tested_on(tables):
    two, three = (
        make_population(make_study(tables | {"data": tables["data"] | {"clients": count}}), CPU) for count in (2, 3)
    )
    assert (two.clients, three.clients) == (2, 3)
    assert [len(two.client(number)) for number in range(2)] == [len(three.client(number)) for number in range(2)]
    assert len(two.client(0)) > len(two.client(1)) > len(three.client(2)) > 0
    assert len(two.test) < len(three.test)


def test_a_device_reads_the_tokens_that_partition_wrote(tables, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text("\n".join(f"[{name}]\n{_toml(table)}" for name, table in tables.items()))
    partition(plan, tmp_path / "shards", None)
    study = make_study(tables)
    population = make_population(study, CPU)
    for number in range(2):
        records = read_records(tmp_path / "shards" / f"client-{number:03d}.npz", CPU)
        assert records.features.dtype == records.labels.dtype == torch.int64
        assert torch.equal(records.features, population.client(number).features)
        assert torch.equal(records.labels, population.client(number).labels)
        check_records(records, study)
        assert len(fitting(records, study)) == len(records)
    features, labels = read_arrays(tmp_path / "shards" / "test.npz")
    assert np.array_equal(features, population.test.features)
    assert np.array_equal(labels, population.test.labels)


def _toml(table):
    return "\n".join(f"{key} = {value!r}" for key, value in table.items())


def test_a_federation_trains_on_tokens(tables, tmp_path):
    result = simulate(make_study(tables), tmp_path / "run")
    assert result.rounds == 2
    assert 0 <= result.accuracy <= 1
    assert result.figures["perplexity"] == pytest.approx(math.exp(result.loss), rel=1e-5)
