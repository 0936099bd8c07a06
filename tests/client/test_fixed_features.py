"""Features of a fixed part are computed once for a device's records, and training sees them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client import fixed_features
from bract.client.fixed_features import kept_features
from bract.client.records import Records, fitting
from bract.models import NETWORKS, Network
from bract.models.fixed import FixedFeatures
from bract.privacy import Plan, make_plan

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
