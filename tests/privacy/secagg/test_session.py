from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bract.privacy import Plan
from bract.privacy.secagg.graph import Graph, most_colluders
from bract.privacy.secagg.session import Session, make_session

SESSION = Session(5, 1, bytes(32), False, 300, 0, 0.3)


def changed(section: str, **fields: object) -> Plan:
    plan = Plan()
    return plan.model_copy(update={section: getattr(plan, section).model_copy(update=fields)})


def test_a_session_is_that_of_its_plan() -> None:
    plan = changed("aggregation", key_exchange="hybrid", colluders=0.1, dropouts=0.2)
    session = make_session(plan, 2**64 - 1, 9)
    assert session == Session(2**64 - 1, 9, bytes.fromhex(plan.digest), True, 11, 1, 0.2)
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
def test_whatever_the_plan_changes_changes_every_key_of_the_round(section: str, fields: dict[str, Any]) -> None:
    one, other = make_session(Plan(), 1, 1), make_session(changed(section, **fields), 1, 1)
    assert one.digest != other.digest
    assert one.cards_digest([b"card"]) != other.cards_digest([b"card"])
    assert one.context(b"cards", b"members", b"model") != other.context(b"cards", b"members", b"model")


def test_run_and_round_change_the_digest_and_cannot_take_each_others_place() -> None:
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


@pytest.mark.parametrize(("devices", "least"), [(2, 2), (3, 2), (5, 4), (20, 14), (100, 67), (256, 171)])
def test_of_a_complete_graph_a_threshold_must_survive(devices: int, least: int) -> None:
    session = replace(SESSION, largest=devices, colluders=most_colluders(devices, 1 / 3))
    graph = session.graph(devices)
    assert session.least_survivors(graph) == least == graph.threshold


def test_the_colluders_of_the_planned_cohort_can_all_be_in_a_smaller_one() -> None:
    """With a threshold of 4 of 6, two colluders could have two lists of survivors open both secrets of a device."""
    session = replace(SESSION, largest=9, colluders=2)
    assert [session.graph(devices).threshold for devices in (3, 4, 5, 6, 7, 8, 9)] == [3, 4, 4, 5, 5, 6, 6]
    with pytest.raises(ValueError, match="too many colluders"):
        session.graph(2)


def test_more_devices_than_planned_have_no_graph() -> None:
    with pytest.raises(ValueError, match="more devices than planned"):
        replace(SESSION, largest=9).graph(10)


def test_of_a_sparse_graph_no_more_may_drop_out_than_it_was_chosen_for() -> None:
    session = replace(SESSION, colluders=14, dropouts=0.1)
    graph = session.graph(300)
    assert graph.threshold < 30
    assert session.least_survivors(graph) == 270
    assert session.least_survivors(Graph(1000, 36, 19)) == 900


def test_one_device_alone_has_no_graph() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        SESSION.graph(1)
