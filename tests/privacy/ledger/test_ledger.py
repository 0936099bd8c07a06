"""The ledger of a run: what it charges, refuses and keeps."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledgers import DELTA, DIGEST, EVENT, FREE, budget, cost, entry

from bract.privacy import Budget, BudgetError, Composed, Entry, Gaussian, Ledger, Unbounded
from bract.privacy.accounting.accountant import rdp_epsilon
from bract.privacy.ledger.entries import DEVICE
from bract.privacy.ledger.ledger import DeviceLedger

# What it charges


def test_refuses_past_the_budget_with_nothing_written(path: Path) -> None:
    with Ledger(path, budget(3), DIGEST) as ledger:
        for number in (1, 2, 3):
            ledger.spend(entry(number))
        before, head = path.read_bytes(), ledger.head
        with pytest.raises(BudgetError) as caught:
            ledger.spend(entry(4))
        assert path.read_bytes() == before
        assert (len(ledger.entries), ledger.head) == (3, head)
        assert ledger.spent("released") == cost(3)
    assert "round 4" in caught.value.what
    assert f"{cost(4):.4g}" in caught.value.what


def test_refuses_what_passes_the_budget_by_a_hundred_millionth(path: Path) -> None:
    """Only rounding in the last digits of a figure is forgiven."""
    with Ledger(path, Budget(cost(3) / (1 + 1e-8), DELTA, "record", "released"), DIGEST) as ledger:
        for number in (1, 2):
            ledger.spend(entry(number))
        with pytest.raises(BudgetError):
            ledger.spend(entry(3))


def test_a_device_refuses_a_hundred_millionth_above_its_terms(path: Path) -> None:
    event = Entry(3, "r3", (DEVICE,), EVENT, EVENT)
    with DeviceLedger(path, Budget(cost(3) / (1 + 1e-8), DELTA, "record", "server"), 1.0) as ledger:
        for number in (1, 2):
            ledger.spend(replace(event, round=number, release=f"r{number}"))
        with pytest.raises(BudgetError):
            ledger.spend(event)


def test_refuses_past_the_budget_after_a_restart_as_before_it(path: Path) -> None:
    for number in (1, 2, 3):
        with Ledger(path, budget(3), DIGEST) as ledger:
            ledger.spend(entry(number))
    with Ledger(path, budget(3), DIGEST) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(4))


def test_a_client_with_budget_left_may_go_on(path: Path) -> None:
    """Another client was refused before."""
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1))
        with pytest.raises(BudgetError):
            ledger.spend(entry(2, 1, 2))
        ledger.spend(entry(2, 2))
        assert ledger.spent("released") == cost(1)


def test_one_client_past_the_budget_refuses_a_whole_cohort(path: Path) -> None:
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1, 5))
        ledger.spend(entry(2, 5))
        with pytest.raises(BudgetError):
            ledger.spend(entry(3, *range(1, 50)))
        ledger.spend(entry(3, *(client for client in range(1, 50) if client != 5)))


def test_the_same_release_is_charged_once(path: Path) -> None:
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2))
        before = path.read_bytes()
        ledger.spend(entry(1, 1, 2))
        assert path.read_bytes() == before
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2))
        assert path.read_bytes() == before
        assert ledger.participations() == {"1": 1, "2": 1}


def test_a_round_under_another_release_name_is_charged_twice(path: Path) -> None:
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1, release="first"))
        ledger.spend(entry(1, release="second"))
        assert ledger.spent("released") == cost(2)
        with pytest.raises(BudgetError):
            ledger.spend(entry(1, release="third"))


@pytest.mark.parametrize(
    "other",
    [
        entry(2, 1, 2, release="name"),
        entry(1, 1, 3, release="name"),
        entry(1, 1, release="name"),
        entry(1, 1, 2, release="name", event=Gaussian(4.0)),
        Entry(1, "name", ("1", "2"), EVENT, EVENT),
    ],
)
def test_a_release_name_with_anything_else_changed_is_charged(path: Path, other: Entry) -> None:
    """A name that comes back."""
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2, release="name"))
        ledger.spend(other)
        assert len(ledger.entries) == 2
        assert ledger.participations()["1"] == 2


def test_spent_is_what_the_client_lost_that_lost_most(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        assert ledger.spent("released") == ledger.audit("released") == 0.0
        ledger.spend(entry(1, 1, 2))
        ledger.spend(entry(2, 2, 3))
        ledger.spend(entry(3, 2, event=Gaussian(8.0)))
        expected = ((EVENT, 2), (Gaussian(8.0), 1))
        assert ledger.spent("released") > cost(2)
        assert ledger.spent("released") <= ledger.audit("released") == rdp_epsilon(expected[::-1], DELTA)
        assert ledger.participations() == {"1": 1, "2": 3, "3": 1}


def test_participations_leave_out_the_one_repeatable_release(path: Path) -> None:
    """The release that may be made once more, and no other."""
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2, release="first"))
        ledger.spend(entry(2, 1, 3, release="second"))
        assert ledger.participations() == {"1": 2, "2": 1, "3": 1}
        assert ledger.participations(without="second") == {"1": 1, "2": 1}
        assert ledger.participations(without="never") == ledger.participations()


@pytest.mark.parametrize("view", ["server", "released"])
def test_a_budget_binds_the_view_it_states(path: Path, view: Any) -> None:
    dear, cheap = Gaussian(1.0), Gaussian(100.0)
    events = (dear, cheap) if view == "server" else (cheap, dear)
    with Ledger(path, Budget(cost(1, dear) * 1.001, DELTA, "record", view), DIGEST) as ledger:
        ledger.spend(Entry(1, "a", ("1",), *events))
        assert ledger.spent(view) == cost(1, dear)
        assert ledger.spent("released" if view == "server" else "server") == cost(1, cheap)
        with pytest.raises(BudgetError):
            ledger.spend(Entry(2, "b", ("1",), *events))


def test_central_noise_is_unbounded_for_the_server_alone(
    path: Path,
) -> None:
    """What the server sees is unbounded where it adds the noise, while what is released is bounded."""
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1))
        assert ledger.spent("server") == ledger.audit("server") == math.inf
        assert ledger.spent("released") == cost(1)


def test_a_budget_against_the_server_refuses_bare_sums(path: Path) -> None:
    """What no noise protects."""
    with Ledger(path, Budget(1e6, DELTA, "record", "server"), DIGEST) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(1))


def test_without_a_bound_all_is_charged_and_nothing_refused(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        for number in range(1, 30):
            ledger.spend(entry(number, event=Unbounded()))
        assert ledger.participations() == {"1": 29}


# What lies on disk


def test_reopening_gives_back_entries_head_and_figures(path: Path) -> None:
    entries = (
        entry(1, 1, 2),
        entry(2, 2**63 + 5, event=Composed(EVENT, 3)),
        Entry(3, "é\n\u2028", ("2",), EVENT, EVENT),
    )
    with Ledger(path, FREE, DIGEST) as ledger:
        for one in entries:
            ledger.spend(one)
        head, released = ledger.head, ledger.spent("released")
    with Ledger(path, FREE, DIGEST) as ledger:
        assert (ledger.entries, ledger.head) == (entries, head)
        assert ledger.spent("released") == released
        assert ledger.participations() == {"1": 1, "2": 2, str(2**63 + 5): 1}


def test_knows_every_head_it_ever_had_and_no_other(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        heads = [ledger.head]
        for number in (1, 2, 3):
            ledger.spend(entry(number))
            heads.append(ledger.head)
    with Ledger(path, FREE, DIGEST) as ledger:
        assert len(set(heads)) == 4
        assert all(ledger.knows(head) for head in heads)
        assert not ledger.knows("f" * 64)
        assert not ledger.knows(heads[0][:-1])


def test_a_ledger_without_its_last_line_has_another_head(path: Path) -> None:
    """It does not know the head that it had."""
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1))
        ledger.spend(entry(2))
        head = ledger.head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with Ledger(path, FREE, DIGEST) as ledger:
        assert ledger.entries == (entry(1),)
        assert not ledger.knows(head)
        ledger.spend(entry(2, release="again"))
        assert not ledger.knows(head)


def test_the_charge_is_synced_when_spend_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written is in the file at the last sync, so nothing is left to a cache."""
    synced: list[bytes] = []

    def fsync(_: int) -> None:
        synced.append(path.read_bytes())

    with Ledger(path, FREE, DIGEST) as ledger:
        monkeypatch.setattr("bract.privacy.ledger.hash_chain.os.fsync", fsync)
        for number in (1, 2):
            ledger.spend(entry(number))
            assert len(synced) == number
            assert synced[-1] == path.read_bytes()
            assert f'"round":{number}'.encode() in synced[-1]
        monkeypatch.undo()


def test_what_another_process_wrote_is_synced_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been killed between writing its last line and syncing it."""
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1))
    synced: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.ledger.hash_chain.os.fsync", synced.append)
        with Ledger(path, FREE, DIGEST) as ledger:
            assert len(synced) == 1
            ledger.spend(entry(1))
    assert len(synced) == 1


def test_a_new_ledger_and_its_name_in_the_folder_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.path.isdir(f"/proc/self/fd/{descriptor}")))
    with Ledger(path, FREE, DIGEST):
        pass
    monkeypatch.undo()
    assert synced == [False, True]
