"""The walk-through of a deployment: its terms are what the command writes, and they accept its plan."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path

import pytest

from bract.client.terms import SAFE_TERMS, Refused, Terms
from bract.models import count_parameters
from bract.privacy import Plan, accept_plan, make_plan, mechanism_of

DOCS = (Path(__file__).parent.parent / "docs" / "deployment.md").read_text()


def block(name: str) -> str:
    """The indented block that begins with this file's name as a comment."""
    start = DOCS.index(f"    # {name}: ")
    lines: list[str] = []
    for line in DOCS[start:].splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines)).strip() + "\n"


def test_the_documented_terms_are_those_that_the_command_writes() -> None:
    assert block("terms.toml") == SAFE_TERMS


def test_the_documented_terms_accept_the_documented_plan() -> None:
    """They cover all its rounds."""
    terms = Terms.model_validate(tomllib.loads(block("terms.toml")))
    mechanism = accept_plan(block("plan.toml"), count_parameters)
    terms.check(mechanism)
    plan = mechanism.plan
    assert plan.privacy.epsilon <= terms.max_epsilon
    assert plan.privacy.delta <= terms.max_delta


def test_the_documented_superlink_outlives_a_crash() -> None:
    """It can be reached."""
    start = DOCS.index("    flower-superlink ")
    command = DOCS[start : DOCS.index("\n\n", start)]
    for option in ("--host 0.0.0.0", "--database", "--ssl-certfile"):
        assert option in command


@pytest.mark.parametrize(
    ("colluders", "change"),
    [(0.35, {}), (None, {"min_colluders": 0, "min_survivors": 2})],
)
def test_three_devices_take_part_as_the_page_says(colluders: float | None, change: dict[str, int]) -> None:
    tables = tomllib.loads(block("plan.toml"))
    tables["data"]["clients"] = tables["cohort"]["size"] = 3
    del tables["aggregation"]["dropouts"], tables["aggregation"]["colluders"]
    few = mechanism_of(make_plan(tables, Plan, count=count_parameters))
    safe = tomllib.loads(block("terms.toml"))
    with pytest.raises(Refused):
        Terms.model_validate(safe).check(few)
    if colluders:
        tables["aggregation"]["colluders"] = colluders
    Terms.model_validate(safe | change).check(mechanism_of(make_plan(tables, Plan, count=count_parameters)))


def test_a_run_with_a_shared_ledger_gets_the_roster_it_needs() -> None:
    shared = [line for line in DOCS.splitlines() if 'ledger="' in line]
    assert shared
    assert all('roster="' in line for line in shared)
