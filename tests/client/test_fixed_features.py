"""Features of a fixed part are computed once for a device's records, and training sees them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client import fixed_features, local_sgd
from bract.client.fixed_features import kept_features
from bract.client.records import Records, fitting
from bract.client.train import _engine, try_training
from bract.models import NETWORKS, Network, features_of, parts_of
from bract.models.fixed import FixedFeatures
from bract.privacy import Plan, PlanError, make_plan

PASSES: list[int] = []


class Halves(nn.Module):
    """Half of each number, with a note of the rows of each pass."""

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        PASSES.append(len(records))
        return records / 2


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    def halves(shape: tuple[int, ...], classes: int) -> nn.Module:
        return FixedFeatures(Halves(), nn.Linear(shape[0], classes))

    monkeypatch.setitem(NETWORKS, "halves", Network("halves", halves))
    fixed_features._fixed.cache_clear()
    PASSES.clear()
    tables = {
        "data": {"shape": [4], "classes": 3, "clients": 2, "records": 1000},
        "model": {"name": "halves", "parameters": 15},
        "cohort": {"size": 2},
    }
    return make_plan(tables, Plan, "the plan")


def records(count: int) -> Records:
    return Records(torch.arange(count * 4.0).view(count, 4), torch.arange(count) % 4)


def test_training_sees_the_features_of_the_fixed_part(plan: Plan) -> None:
    raw = records(5)
    assert torch.equal(fitting(raw, plan).features, raw.features / 2)


def test_features_are_computed_once_for_all_rounds(plan: Plan) -> None:
    raw = records(40)
    for _ in range(3):
        fitting(raw, plan)
    assert PASSES == [16, 16, 16]


def test_other_records_have_features_of_their_own(plan: Plan) -> None:
    one, other = records(3), Records(torch.ones(3, 4), torch.zeros(3, dtype=torch.int64))
    assert not torch.equal(kept_features(one.features, plan), kept_features(other.features, plan))


def test_a_record_outside_the_plans_classes_stays_a_blank(plan: Plan) -> None:
    fits = fitting(records(8), plan).fits
    assert fits is not None
    assert fits.tolist() == [True, True, True, False] * 2


def test_a_network_without_a_fixed_part_sees_the_records(plan: Plan) -> None:
    raw = records(3)
    plain = plan.model_copy(update={"model": plan.model.model_copy(update={"name": "logistic"})})
    assert kept_features(raw.features, plain) is raw.features


class Centred(nn.Module):
    """Records minus their mean, as a batch."""

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        return records - records.mean(0)


class Counted(nn.Module):
    """Records plus the number of the pass."""

    passes = 0

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return records + self.passes


class Spread(nn.Module):
    """The records times an identity matrix, which carries NaN from one record to all."""

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(records)) @ records


class Noisy(nn.Module):
    """Records plus random numbers."""

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        return records + torch.randn_like(records)


@pytest.mark.parametrize(
    "fixed", [Centred, lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False), Counted, Spread, Noisy]
)
@pytest.mark.parametrize("unit", ["record", "client"])
def test_a_fixed_part_that_mixes_records_is_refused(fixed, unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record would change the clipped gradients of all others, which no noise of the plan covers."""
    _refused(fixed, unit, monkeypatch, "mixes records")


def test_a_fixed_part_with_parameters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _refused(lambda: nn.Linear(4, 4), "record", monkeypatch, "has parameters")


def _refused(fixed, unit: str, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    network = Network("mixed", lambda shape, classes: FixedFeatures(fixed(), nn.Linear(shape[0], classes)))
    monkeypatch.setitem(NETWORKS, "mixed", network)
    _engine.cache_clear()
    local_sgd._network.cache_clear()
    tables = {
        "data": {"shape": [4], "classes": 3, "clients": 2, "records": 1000},
        "model": {"name": "mixed", "parameters": 15},
        "cohort": {"size": 2},
        "privacy": {"unit": unit} | ({"sampling_rate": 1.0} if unit == "client" else {}),
    }
    with pytest.raises(PlanError, match=why):
        try_training(make_plan(tables, Plan, "the plan"))


def test_a_fixed_part_is_in_evaluation_mode() -> None:
    fixed, _ = parts_of(FixedFeatures(nn.Dropout(), nn.Linear(4, 3)))
    assert fixed is not None
    assert torch.equal(features_of(fixed, torch.ones(3, 4)), torch.ones(3, 4))


class Picky(nn.Module):
    """The records, or an error if one of them is not finite."""

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        if not bool(records.isfinite().all()):
            raise ValueError("not finite")
        return records / 2


def test_a_record_that_a_fixed_part_fails_on_counts_alone() -> None:
    """If it took the answer with it, the server would learn without noise that such a record exists."""
    raw = records(20).features
    raw[3, 1] = float("nan")
    found = fixed_features._features(Picky(), raw)
    assert bool(found[3].isnan().all())
    others = torch.arange(20) != 3
    assert torch.equal(found[others], raw[others] / 2)
