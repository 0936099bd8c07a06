"""The ledger that several plans over one population share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.privacy import Budget, BudgetError, Composed, Entry, Event, Gaussian, Ledger, PlanError, StateError
from bract.privacy.accounting.accountant import epsilon, spent
from bract.privacy.ledger.entries import Origin
from bract.privacy.ledger.ledger import DeviceLedger, PopulationLedger, new_population

DELTA = 1e-5
EVENT, OTHER = Gaussian(8.0), Gaussian(9.0)
PLAN = Budget(1.0, DELTA, "record", "server")
FIRST, SECOND = Origin("a" * 64, "one", "people"), Origin("b" * 64, "two", "people")


def cost(count: int) -> float:
    return epsilon(Composed(EVENT, count), DELTA)


def entry(number: int, *clients: int, event: Event = EVENT) -> Entry:
    return Entry(number, f"r{number}", tuple(map(str, clients or (1,))), event, event)


def shared(path: Path, origin: Origin = FIRST, plan: Budget = PLAN) -> PopulationLedger:
    return PopulationLedger(path, plan, origin)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A population's ledger whose budget covers four events."""
    new_population(tmp_path / "shared.jsonl", Budget(cost(4) * 1.0001, DELTA, "record", "server"))
    return tmp_path / "shared.jsonl"


def test_what_one_plan_spent_another_cannot_spend_again(path: Path) -> None:
    with shared(path, FIRST) as ledger:
        for number in (1, 2, 3):
            ledger.spend(entry(number))
    with shared(path, SECOND) as ledger:
        assert ledger.spent("server") == cost(3)
        ledger.spend(entry(1))
        with pytest.raises(BudgetError) as caught:
            ledger.spend(entry(2))
    assert caught.value.what == (
        f"round 2 would bring the population's epsilon to {cost(5):.4g}, its budget is {cost(4) * 1.0001:g}"
    )
    with shared(path, FIRST) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(4))


def test_a_client_that_no_other_plan_touched_has_it_all(path: Path) -> None:
    """It has the whole budget."""
    with shared(path, FIRST) as ledger:
        for number in (1, 2, 3, 4):
            ledger.spend(entry(number, 1))
    with shared(path, SECOND) as ledger:
        with pytest.raises(BudgetError):
            ledger.spend(entry(1, 1, 2))
        for number in (1, 2, 3, 4):
            ledger.spend(entry(number, 2))


def test_the_budget_that_binds_is_the_ledgers_and_not_the_plans(path: Path) -> None:
    with shared(path, plan=Budget(cost(1) / 2, DELTA, "record", "server")) as ledger:
        assert ledger.budget.epsilon == cost(4) * 1.0001
        ledger.spend(entry(1))


def test_plans_that_add_other_noise_are_composed(path: Path) -> None:
    with shared(path, FIRST) as ledger:
        ledger.spend(entry(1, event=EVENT))
    with shared(path, SECOND) as ledger:
        ledger.spend(entry(1, event=OTHER))
        assert ledger.spent("server") == spent(((EVENT, 1), (OTHER, 1)), DELTA)


@pytest.mark.parametrize("other", [SECOND, Origin(FIRST.plan, "again", "people")])
def test_entries_and_participations_are_those_of_the_run(path: Path, other: Origin) -> None:
    """Even where a plan is trained twice."""
    with shared(path, FIRST) as ledger:
        ledger.spend(entry(1, 1, 2))
        head = ledger.head
    with shared(path, other) as ledger:
        assert ledger.entries == ()
        assert ledger.participations() == Counter()
        ledger.spend(entry(1, 1, 2))
        assert [one.origin for one in ledger.entries] == [other]
        assert ledger.participations() == {"1": 1, "2": 1}
        assert ledger.participations(without="r1") == Counter()
        assert ledger.spent("server") == cost(2)
        assert ledger.knows(head)


def test_a_release_of_a_run_is_charged_once(path: Path) -> None:
    """One of that name of another run is charged again."""
    for _ in range(2):
        with shared(path, FIRST) as ledger:
            ledger.spend(entry(1))
            assert ledger.spent("server") == cost(1)
    with shared(path, SECOND) as ledger:
        ledger.spend(entry(1))
        assert ledger.spent("server") == cost(2)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Budget(1.0, DELTA, "client", "server"), "unit record, the plan client"),
        (Budget(1.0, DELTA, "record", "released"), "view server, the plan released"),
        (Budget(1.0, 1e-6, "record", "server"), "delta 1e-05, the plan 1e-06"),
        (Budget(1.0, DELTA, "record", "server", "replace-one"), "relation add-or-remove-one, the plan replace-one"),
    ],
)
def test_another_unit_view_or_delta_is_refused(path: Path, plan: Budget, said: str) -> None:
    """Of a plan, and the lock is let go."""
    before = path.read_bytes()
    with pytest.raises(PlanError) as caught:
        shared(path, plan=plan)
    assert said in caught.value.what
    assert path.read_bytes() == before
    with shared(path):
        pass


def test_a_plan_over_other_clients_is_refused(path: Path) -> None:
    """The lock is let go."""
    with shared(path, FIRST) as ledger:
        ledger.spend(entry(1))
    with pytest.raises(PlanError, match="counts other clients than"):
        shared(path, Origin("b" * 64, "two", "other people"))
    with shared(path, SECOND) as ledger:
        assert ledger.spent("server") == cost(1)


def test_two_runs_cannot_hold_it_at_once(path: Path) -> None:
    with shared(path, FIRST), pytest.raises(StateError, match="in use"):
        shared(path, SECOND)


def test_a_missing_ledger_is_not_made(tmp_path: Path) -> None:
    """How to make it is said."""
    with pytest.raises(PlanError) as caught:
        shared(tmp_path / "none")
    assert "bract ledger new" in caught.value.hint
    assert "--delta 1e-05 --unit record --view server" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b'{"kind":"popul'])
def test_an_empty_or_torn_file_is_no_ledger(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StateError, match="holds no ledger"):
        shared(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


def make_run(path: Path) -> Any:
    return Ledger(path, PLAN, "a" * 64)


def make_device(path: Path) -> Any:
    return DeviceLedger(path, PLAN)


def make_population(path: Path) -> Any:
    new_population(path, PLAN)
    return shared(path)


KINDS = {"run": make_run, "device": make_device, "population": make_population}


@pytest.mark.parametrize("is_there", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_one_kind_of_ledger_cannot_be_opened_as_another(tmp_path: Path, is_there: str, wanted: str) -> None:
    if is_there == wanted:
        return
    path = tmp_path / "ledger"
    with KINDS[is_there](path):
        pass
    before = path.read_bytes()
    with pytest.raises((StateError, PlanError)):
        KINDS[wanted](path)
    assert path.read_bytes() == before


def test_a_ledger_that_is_there_is_not_made_again(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(PlanError, match="is there already"):
        new_population(path, Budget(100.0, DELTA, "record", "server"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("limit", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (float("nan"), 1e-5), (float("inf"), 1e-5), (None, 1e-5)]
)
def test_what_is_no_budget_makes_no_ledger(tmp_path: Path, limit: float | None, delta: float) -> None:
    with pytest.raises(PlanError, match="no budget"):
        new_population(tmp_path / "ledger", Budget(limit, delta, "record", "server"))
    assert not (tmp_path / "ledger").exists()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([FIRST, SECOND]), st.sets(st.integers(1, 3), min_size=1)), max_size=10))
def test_no_order_of_runs_takes_more_than_the_budget(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[Origin, set[int]]]
) -> None:
    """It holds for each client."""
    path = tmp_path_factory.mktemp("shared") / "ledger"
    new_population(path, Budget(cost(4) * 1.0001, DELTA, "record", "server"))
    taken: Counter[int] = Counter()
    for number, (origin, clients) in enumerate(wanted, 1):
        with shared(path, origin) as ledger:
            fits = all(taken[client] < 4 for client in clients)
            try:
                ledger.spend(entry(number, *sorted(clients)))
            except BudgetError:
                assert not fits
            else:
                assert fits
                taken.update(clients)
            assert ledger.spent("server") == (cost(max(taken.values())) if taken else 0.0)
