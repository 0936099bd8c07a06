"""Settings that nobody knows are refused by name: in the place of each a default would be taken in silence."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Context, RecordDict

from bract.client.device import FLOWERS, SETTINGS, open_device
from bract.privacy import BractError, PlanError
from bract.privacy.settings import check_settings
from bract.server import app


def context(node: dict[str, Any], run: dict[str, Any]) -> Context:
    return Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config=run)


@pytest.mark.parametrize("name", ["term", "Terms", "terms ", "max_epsilon", ""])
def test_a_mistyped_setting_of_a_node_is_refused_by_name(name: str) -> None:
    """Before anything is read."""
    with pytest.raises(PlanError) as caught:
        open_device(context({"data": "/none.npz", "state": "/none", name: "terms.toml"}, {}))
    assert repr(name) in caught.value.what
    assert caught.value.hint == f"it has {', '.join(SETTINGS + FLOWERS)}"


def test_what_flower_itself_sets_is_let_pass() -> None:
    with pytest.raises(BractError, match="has no data"):
        open_device(context({"partition-id": 0, "num-partitions": 4}, {}))


def test_a_mistyped_setting_of_a_run_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"unknown setting 'test_data' \(did you mean test-data\?\)"):
        app.main(None, context({}, {"plan": "p", "out": "o", "test_data": "t"}))  # pyright: ignore


def test_known_settings_pass() -> None:
    check_settings(["plan", "out"], app.SETTINGS, "run")
