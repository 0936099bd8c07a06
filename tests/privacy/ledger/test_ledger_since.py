"""The entries of a ledger after one of its heads: what tells whether noise may be carried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.privacy import Budget, Entry, Gaussian, Ledger
from bract.privacy.ledger.entries import Origin
from bract.privacy.ledger.ledger import PopulationLedger, new_population

BUDGET = Budget(1e6, 1e-5, "client", "released")


def entry(round: int, release: str = "") -> Entry:
    return Entry(round, release or f"release {round}", ("1", "2"), Gaussian(5.0), Gaussian(5.0))


def test_entries_after_a_head_are_those_charged_since(tmp_path: Path) -> None:
    """Also when the file is opened again."""
    heads = []
    with Ledger(tmp_path / "ledger", BUDGET, "plan") as ledger:
        for number in range(4):
            heads.append(ledger.head)
            ledger.spend(entry(number))
        assert ledger.since(ledger.head) == ()
    with Ledger(tmp_path / "ledger", BUDGET, "plan") as ledger:
        assert [[e.round for e in ledger.since(head)] for head in heads] == [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]
        assert ledger.since(heads[0]) == ledger.entries


def test_the_one_repeatable_release_is_left_out(tmp_path: Path) -> None:
    """The release that may be made once more, and no other."""
    with Ledger(tmp_path / "ledger", BUDGET, "plan") as ledger:
        head = ledger.head
        ledger.spend(entry(1, "a"))
        ledger.spend(entry(2, "b"))
        assert [e.release for e in ledger.since(head, without="a")] == ["b"]
        assert [e.release for e in ledger.since(head, without="c")] == ["a", "b"]


@pytest.mark.parametrize("head", ["", "0" * 64, "f" * 64])
def test_what_was_never_the_head_of_the_ledger_is_an_error(tmp_path: Path, head: str) -> None:
    with Ledger(tmp_path / "ledger", BUDGET, "plan") as ledger:
        ledger.spend(entry(1))
        with pytest.raises(ValueError, match="not in list"):
            ledger.since(head)


def test_entries_of_other_runs_do_not_count(tmp_path: Path) -> None:
    """In a population's ledger."""
    path = tmp_path / "ledger"
    new_population(path, BUDGET)
    mine, other = (Origin("plan", run, "people") for run in ("mine", "other"))
    with PopulationLedger(path, BUDGET, mine) as ledger:
        ledger.spend(entry(1))
        head = ledger.head
    with PopulationLedger(path, BUDGET, other) as ledger:
        ledger.spend(entry(1))
    with PopulationLedger(path, BUDGET, mine) as ledger:
        assert ledger.head != head
        assert ledger.since(head) == ()
        ledger.spend(entry(2))
        assert [e.round for e in ledger.since(head)] == [2]
