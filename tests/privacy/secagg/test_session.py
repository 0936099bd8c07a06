"""A session: what its digest binds, and its thresholds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bract.privacy import Plan
from bract.privacy.secagg.graph import Graph
from bract.privacy.secagg.session import Session, make_session

SESSION = Session(5, 1, bytes(32), False, 300, 0, 0.3, 151)


def changed(section: str, **fields: object) -> Plan:
    plan = Plan()
    return plan.model_copy(update={section: getattr(plan, section).model_copy(update=fields)})


def test_a_session_is_that_of_its_plan() -> None:
    plan = changed("aggregation", protocol="secagg", key_exchange="hybrid", colluders=0.1, dropouts=0.2)
    session = make_session(plan, 2**64 - 1, 9)
    assert session == Session(2**64 - 1, 9, bytes.fromhex(plan.digest), True, 11, 1, 0.2, 7)
    assert not make_session(Plan(), 1, 1).hybrid


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("aggregation", {"bits": 12}),
        ("aggregation", {"range": 3.0}),
        ("aggregation", {"mode": "malicious-server"}),
        ("aggregation", {"key_exchange": "hybrid"}),
        ("aggregation", {"colluders": 0.2}),
        ("aggregation", {"dropouts": 0.2}),
        ("cohort", {"minimum": 4}),
        ("cohort", {"size": 17}),
        ("privacy", {"clip_norm": 0.5}),
        ("privacy", {"noise_multiplier": 2.0}),
    ],
)
def test_whatever_the_plan_changes_changes_every_key(section: str, fields: dict[str, Any]) -> None:
    """The keys are those of a round."""
    one, other = make_session(Plan(), 1, 1), make_session(changed(section, **fields), 1, 1)
    assert one.digest != other.digest
    assert one.cards_digest([b"card"]) != other.cards_digest([b"card"])
    assert one.context(b"cards", b"members", b"model") != other.context(b"cards", b"members", b"model")


def test_run_and_round_change_the_digest() -> None:
    """They cannot take each other's place."""
    made = {replace(SESSION, run=run, round=round).digest for run in (1, 2, 256) for round in (1, 2, 256)}
    assert len(made) == 9


@pytest.mark.parametrize("place", range(3))
def test_a_context_is_bound_to_cards_members_and_model(place: int) -> None:
    parts = [b"cards", b"members", b"model"]
    other = [*parts[:place], b"other", *parts[place + 1 :]]
    assert SESSION.context(*parts) != SESSION.context(*other)
    assert SESSION.context(*parts) != SESSION.context(*reversed(parts))


def test_the_digest_of_cards_is_bound_to_their_number_and_order() -> None:
    made = {SESSION.cards_digest(cards) for cards in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [b"a"], [b"a", b"b", b""])}
    assert len(made) == 5


def test_a_smaller_cohort_has_the_threshold_of_the_planned_one() -> None:
    """Two colluders of nine can be among four that are seated, and the honest seven be cut into two sums."""
    session = replace(SESSION, planned=9, colluders=2)
    assert [session.graph(devices).threshold for devices in (6, 7, 8, 9)] == [6, 6, 6, 6]
    for few in range(6):
        with pytest.raises(ValueError, match="too few"):
            session.graph(few)


def test_more_devices_than_planned_have_no_graph() -> None:
    with pytest.raises(ValueError, match="more than planned"):
        replace(SESSION, planned=9).graph(10)


def test_a_small_sparse_graph_can_be_tried_and_no_plan_gives_one() -> None:
    small = Graph(12, 4, 3)
    session = replace(SESSION, planned=12, sparse=small)
    assert session.graph(12) is small
    assert session.graph(11).complete
    assert make_session(Plan(), 1, 1).sparse is None
