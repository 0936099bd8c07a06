"""Whom an entry may name: a client that is counted twice, or under no name, would be charged wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.privacy import Budget, Entry, Gaussian, Ledger
from bract.privacy.ledger.entries import entry_from_json, entry_to_json

BUDGET = Budget(8.0, 1e-5, "record", "released")


def entry(*clients: str) -> Entry:
    return Entry(1, "release", clients, Gaussian(4.0), Gaussian(5.0))


@pytest.mark.parametrize(
    ("clients", "what"),
    [
        (("a", "b", "a"), "names a client twice"),
        (("a", ""), "by an invalid name"),
        (("a\n",), "by an invalid name"),
        (("this device", "a"), "by an invalid name"),
    ],
)
def test_an_entry_with_such_clients_is_neither_charged_nor_read(
    tmp_path: Path, clients: tuple[str, ...], what: str
) -> None:
    with Ledger(tmp_path / "ledger", BUDGET, "plan") as ledger:
        with pytest.raises(ValueError, match=what):
            ledger.spend(entry(*clients))
        assert ledger.entries == ()
    with pytest.raises(ValueError, match=what):
        entry_from_json(entry_to_json(entry(*clients)))


@pytest.mark.parametrize("clients", ["ab", {"a": 1}, [1, 2], ["a", 2], None])
def test_clients_that_are_no_list_of_names_are_not_read(clients: object) -> None:
    """A text would pass for the list of its letters."""
    with pytest.raises(TypeError):
        entry_from_json(entry_to_json(entry("a", "b")) | {"clients": clients})


def test_an_entry_is_read_as_it_was_written() -> None:
    assert entry_from_json(entry_to_json(entry("a", "b"))) == entry("a", "b")
