"""A device looks up only the networks that its owner's terms list, and refuses those that it does not have."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import holds_update, make_node, make_offer, make_tiny_plan, said_code

from bract.client.records import Records
from bract.client.terms import Refused, Terms
from bract.models.own import find_own
from bract.privacy import mechanism_of
from bract.privacy.server_view import Code

TRAP = """
from pathlib import Path
(Path(__file__).parent / "imported").touch()
from torch import nn
def build(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, classes))
"""
"""A module of 51 parameters that leaves a mark when it is imported."""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file that the module `trap` writes as soon as it is imported."""
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    find_own.cache_clear()
    yield tmp_path / "imported"
    sys.modules.pop("trap", None)
    find_own.cache_clear()


class Unread(Records):
    """Records that fail at every look at them."""

    def __bool__(self) -> bool:
        return True

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"a record is read: {name}")


def listing(*models: str) -> Terms:
    return Terms(clear_updates=True, models=models or None)


@pytest.mark.parametrize("terms", [listing(), listing("cnn"), listing("trap"), listing("trap:other", "trap:buil")])
def test_a_network_that_the_terms_do_not_list_is_not_imported(terms: Terms, mark: Path) -> None:
    at = make_node(Unread(torch.zeros(0), torch.zeros(0)), terms=terms)
    assert said_code(at.answer(make_offer(make_tiny_plan(model={"name": "trap:build"}).offered()))) == Code.REFUSED
    assert not mark.exists()
    assert not at.ran


def test_a_network_that_the_terms_list_is_trained(mark: Path) -> None:
    at = make_node(terms=listing("trap:build"))
    assert holds_update(at.answer(make_offer(make_tiny_plan(model={"name": "trap:build"}))))
    assert mark.exists()


def test_a_network_that_is_not_installed_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """Before any record is read."""
    name = "hospital_nets.wards:build"
    at = make_node(Unread(torch.zeros(0), torch.zeros(0)), terms=listing(name))
    plan = make_tiny_plan(model={"name": name})
    with caplog.at_level(logging.WARNING, logger="bract.client"):
        assert said_code(at.answer(make_offer(plan.offered()))) == Code.PLAN
    assert name in caplog.text
    assert not at.ran


@pytest.mark.parametrize("name", ["os:system", "no_such_network"])
def test_terms_without_a_list_allow_bracts_own_networks(name: str) -> None:
    listing().check(mechanism_of(make_tiny_plan(model={"name": "cnn"})))
    with pytest.raises(Refused, match="does not come with bract"):
        listing().check(mechanism_of(make_tiny_plan(model={"name": name})))
