"""The rules by which a network and the numbers of a training are chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, make_plan
from bract.privacy.plan.schema import gives_one_away
from bract.simulations.new.rules import MOST_ROUNDS, Facts, candidates, delta_of, training_of


@given(st.integers(1, 10**9))
def test_delta_is_below_one_in_n(units: int) -> None:
    assert not gives_one_away(delta_of(units), units)


@pytest.mark.parametrize(
    ("shape", "classes", "records", "name"),
    [
        ((13,), 2, 900, "logistic"),
        ((13,), 2, 20_000, "mlp"),
        ((10,), 1, 400, "linear"),
        ((1, 28, 28), 10, 60_000, "scattering"),
        ((128, 6), 6, 8000, "scattering-1d"),
        ((128, 6), 6, 300, "scattering-1d"),
        ((1, 28, 28), 10, 300, "logistic"),
    ],
)
def test_the_network_fits_the_records_and_their_number(
    shape: tuple[int, ...], classes: int, records: int, name: str
) -> None:
    tables = training_of(Facts(shape, classes, records, 10, epsilon=1.0 if records == 900 else 8.0))
    assert tables["model"]["name"] == name


@given(st.integers(20, 10**6), st.integers(4, 200), st.sampled_from(["central", "distributed"]))
def test_every_proposal_is_a_plan(records: int, clients: int, noise: str) -> None:
    facts = Facts((13,), 2, records, clients, noise=noise)
    tables = training_of(facts)
    data = {"shape": [13], "classes": 2, "clients": clients, "records": records}
    count = 100
    plan = make_plan({"data": data, **tables}, Plan, "a plan", lambda name, shape, classes: count)
    assert plan.cohort.rounds <= MOST_ROUNDS
    assert plan.training.batch_size <= records


def test_a_text_is_counted_in_one_round() -> None:
    tables = training_of(Facts((100,), 80, 3000, 10, text=True))
    assert tables["model"]["name"] == "ngram"
    assert tables["cohort"]["rounds"] == 1
    assert tables["privacy"]["sampling_rate"] == 1.0
    assert tables["privacy"]["clip_norm"] == 8.0


def test_the_most_capable_network_comes_first() -> None:
    assert candidates((3, 32, 32), 10, 5000)[0] == "scattering"
