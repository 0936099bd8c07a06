"""What a ledger comes to, read without its lock: what is in it, and which files are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import Budget, Entry, Gaussian, Ledger, StateError, StorageError
from bract.privacy.ledger.entries import DEVICE, Account, entry_to_json
from bract.privacy.ledger.hash_chain import Chain
from bract.privacy.ledger.statement import make_statement, read_ledger

BUDGET = Budget(8.0, 1e-5, "record", "released")
HEADER: Mapping[str, Any] = {"format": 2, "budget": BUDGET.to_json(), "plan": "p" * 64}


def entry(round: int, clients: tuple[str, ...]) -> Entry:
    return Entry(round, f"release {round}", clients, Gaussian(4.0), Gaussian(5.0))


def write(path: Path, header: Mapping[str, Any], *lines: Mapping[str, Any]) -> Path:
    chain = Chain(path, header)
    for line in lines:
        chain.append(line)
    chain.close()
    return path


def test_a_run_is_read_while_it_is_charged(tmp_path: Path) -> None:
    """Reader and writer see the same entries, head and sums, and the reader takes no lock."""
    entries = (entry(1, ("a", "b")), entry(2, ("b",)))
    with Ledger(tmp_path / "ledger", BUDGET, HEADER["plan"]) as ledger:
        for one in entries:
            ledger.spend(one)
        reading = read_ledger(tmp_path / "ledger")
        assert (reading.kind, reading.budget, reading.plan) == ("run", BUDGET, HEADER["plan"])
        assert (reading.entries, reading.head) == (entries, ledger.head)
        statement = make_statement(reading, terms=BUDGET)
        assert statement.spent == {view: ledger.spent(view) for view in ("server", "released")}
        assert (statement.entries, statement.clients, statement.most) == (2, 2, 2)
        [share] = statement.shares
        assert (share.plan, share.entries, share.clients) == (HEADER["plan"], 2, 2)


def test_a_device_is_priced_by_its_owners_terms(tmp_path: Path) -> None:
    """Its ledger states no budget: the owner's is the statement's, and so is the view."""
    path = write(tmp_path / "ledger", {"kind": "device"}, entry_to_json(entry(1, (DEVICE,))))
    terms = Budget(2.0, 1e-6, "record", "server")
    statement = make_statement(read_ledger(path), terms)
    assert (statement.kind, statement.budget) == ("device", terms)
    assert statement.spent == {"charged": Account(terms, [entry(1, (DEVICE,))]).spent("server")}


@pytest.mark.parametrize("format", [None, 1, 3, "2"])
def test_a_ledger_of_another_format_is_refused_by_name(tmp_path: Path, format: object) -> None:
    """Its clients' names may mean something else, so its sums would be wrong."""
    header = {key: value for key, value in HEADER.items() if key != "format"}
    path = write(tmp_path / "ledger", header if format is None else header | {"format": format})
    with pytest.raises(StateError, match=r"is a ledger of bract 0\.4 or older"):
        read_ledger(path)


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", write(tmp_path / "other", {**HEADER, "kind": "journal"})):
        with pytest.raises(StateError, match=rf"{path.name} holds no ledger"):
            read_ledger(path)
    with pytest.raises(StorageError, match=r"cannot read .*none: no such file"):
        read_ledger(tmp_path / "none")


@pytest.mark.parametrize("budget", [{}, {"epsilon": 1.0}, None])
def test_a_damaged_budget_is_refused_with_its_line(tmp_path: Path, budget: object) -> None:
    path = write(tmp_path / "ledger", {**HEADER, "budget": budget})
    with pytest.raises(StateError, match="line 1"):
        read_ledger(path)


@pytest.mark.parametrize(
    "change", [{"round": None}, {"clients": "a"}, {"server": {"laplace": {}}}, {"released": None}]
)
def test_a_line_that_is_no_entry_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its hash may be right, as where a later version wrote it: left out, what it cost would be forgotten."""
    good = entry_to_json(entry(1, ("a",)))
    path = write(tmp_path / "ledger", HEADER, good, good | change)
    for read in (read_ledger, lambda path: Ledger(path, BUDGET, HEADER["plan"])):
        with pytest.raises(StateError, match="line 3"):
            read(path)
