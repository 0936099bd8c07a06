"""The card says to whom the guarantee holds, and names no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bract.cli.main import run
from bract.privacy import Plan, make_plan
from bract.server.model_card import make_card

CELLS = {
    "central": ("The server is trusted", {"released": 3.25, "server": None}),
    "local": ("Nobody is trusted", {"released": 3.25, "server": 3.25}),
    "distributed": ("allows for 3 colluding devices", {"released": 3.25, "server": 3.25}),
}


@pytest.mark.parametrize("noise", CELLS)
@pytest.mark.parametrize("unit", ["record", "client"])
def test_a_card_says_who_is_protected_from_whom(noise: str, unit: str) -> None:
    trust, epsilon = CELLS[noise]
    privacy = {"noise": noise, "unit": unit, "epsilon": 1000.0, "allow_large_delta": True}
    privacy |= {"sampling_rate": 1.0} if unit == "client" else {}
    aggregation = {"protocol": "secagg" if noise == "distributed" else "sum"}
    tables = {"privacy": privacy, "aggregation": aggregation, "model": {"parameters": 121930}}
    plan = make_plan(tables, Plan)
    card = make_card(plan, 60, epsilon, {"accuracy": 0.875})
    assert f"(epsilon, {plan.privacy.delta:g})-differential privacy for each {unit}" in card
    assert "to whoever sees only the released models: epsilon 3.250" in card
    assert f"to the server: {'no bound' if noise == 'central' else 'epsilon 3.250'}" in card
    assert trust in card
    assert "accuracy: 87.5%" in card
    assert plan.digest in card


def test_a_run_writes_its_card_without_a_path(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--seed", "1", "--out", str(out), "--quiet"]) == 0
    card = (out / "model.md").read_text()
    assert "Do not release the model" in card
    assert not re.search(r"(?<![\w.])/\w+/", card)
    assert "(epsilon, 0.001)-differential privacy for each record" in card


def test_the_card_of_an_unprotected_run_claims_nothing(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["simulate", str(tiny_plan), "--set", "privacy.unit=none", "--out", str(out), "--quiet"]
    assert run(words) == 0
    card = (out / "model.md").read_text()
    assert "## What is guaranteed\n\nNothing." in card
    assert "differential privacy" not in card
