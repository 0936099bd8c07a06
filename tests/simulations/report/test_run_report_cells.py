"""What the report says of shared noise, and of plans whose unit is the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.privacy import mechanism_of
from bract.privacy.mechanisms.distributed import Distributed
from bract.server.round_log import RoundRecord
from bract.server.state import ServerState
from bract.server.training import Outcome
from bract.simulations.report.run_report import write_report
from bract.simulations.study import Study, make_study

ROUNDS = 4
PLACES = ["central", "distributed", "local"]
EPSILON = {"server": 2.2, "released": 2.0}


def study_of(noise: str, unit: str = "record", masks: bool = True, **aggregation: Any) -> Study:
    client = unit == "client"
    tables: dict[str, dict[str, Any]] = {
        "training": {"local_steps": 5 if client else 1},
        "cohort": {"rounds": ROUNDS, "size": 10},
        "privacy": {"noise": noise, "unit": unit, "noise_multiplier": 1.2, "sampling_rate": 1.0 if client else 0.25},
        "aggregation": {"protocol": "secagg" if noise == "distributed" else "sum"} | aggregation,
        "simulation": {"masks": masks},
    }
    return make_study(tables)


def outcome_of(study: Study, epsilon: dict[str, float | None]) -> Outcome:
    none = np.zeros(3, np.float32)
    records = tuple(
        RoundRecord(n, 1.0, {"accuracy": 0.4}, epsilon, cohort=10, survivors=10, codes={"ok": 10}, seconds=1.0)
        for n in range(1, ROUNDS + 1)
    )
    return Outcome(ServerState(ROUNDS, none, none, {}, "ab" * 32, study.digest), records, epsilon)


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., str]:
    """A function: the text of the report of a run that cost these epsilons."""

    def text(study: Study, epsilon: dict[str, float | None] = EPSILON) -> str:
        path = tmp_path / "report.html"
        write_report(path, study, outcome_of(study, epsilon), 1415)
        body = re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]*>", " ", path.read_text("utf-8"), flags=re.DOTALL)
        return re.sub(r"\s+", " ", unescape(body))

    return text


@pytest.mark.parametrize(
    ("colluders", "most", "side"),
    [(0.3, 2, "even with 2 devices of a round"), (0.2, 1, "even with 1 device of a"), (0.0, 0, "with no device on")],
)
def test_shared_noise_says_against_whom_it_holds(
    said: Callable[..., str], colluders: float, most: int, side: str
) -> None:
    """And by whose noise."""
    text = said(study_of("distributed", colluders=colluders, dropouts=0.2))
    assert "Epsilon against the server 2.200 Epsilon against someone who sees only the released models 2.000" in text
    assert "The server does not have to be trusted." in text
    assert f"Against the server, {side}" in text
    assert "the server is trusted" not in text
    assert f"{8 - most} suffice: a sum has at least 8 devices, and at most {most} may reveal" in text
    assert "each device adds a Skellam share of the noise before the secure sum" in text
    assert "Rényi bound (RDP) of Skellam noise" in text
    assert "(PLD)" not in text
    assert "Budget epsilon 8 at delta 0.0001, against the server" in text


@pytest.mark.parametrize(
    ("shares", "ends"), [("floor", " steps"), ("xnoise", " steps and contains 2 layers for dropouts")]
)
def test_shared_noise_says_what_a_device_brings_and_takes_off(
    said: Callable[..., str], shares: str, ends: str
) -> None:
    """Layers and all, it is the share that the fewest survivors have to bring."""
    plain = study_of("distributed", dropouts=0.2)
    study = plain.model_copy(update={"privacy": plain.privacy.model_copy(update={"shares": shares})})
    mechanism = mechanism_of(study)
    assert isinstance(mechanism, Distributed)
    share = (mechanism.variance / mechanism.numbers.honest) ** 0.5
    text = said(study)
    assert f"A share has a standard deviation of {share:,.1f}{ends}" in text
    assert ("layers for dropouts" in text) == (shares == "xnoise")


def test_shared_noise_says_what_it_takes_for_granted(said: Callable[..., str]) -> None:
    text = said(study_of("distributed"))
    assert "More colluders than assumed. With more than 3 devices of a round on its side" in text
    assert "A server that breaks the protocol. The plan's aggregation.mode is semi-honest" in text
    malicious = said(study_of("distributed", mode="malicious-server"))
    assert "A server that breaks the protocol" not in malicious
    for noise in ("central", "local"):
        text = said(study_of(noise))
        assert "colluders than assumed" not in text
        assert "(PLD)" in text


def test_a_simulation_without_its_masks_alone_lacks_them(said: Callable[..., str]) -> None:
    """Only such a one is said to."""
    left_out, none = "This simulation omitted the masks of secure aggregation", "sums updates without masks"
    for unit in ("record", "client"):
        assert left_out in said(study_of("distributed", unit, masks=False))
        for noise in PLACES:
            text = said(study_of(noise, unit))
            assert left_out not in text
            assert (none in text) == (noise != "distributed")


@pytest.mark.parametrize("noise", PLACES)
def test_a_plan_whose_unit_is_the_client_speaks_of_clients(said: Callable[..., str], noise: str) -> None:
    text = said(study_of(noise, "client"))
    for sentence in (
        "Unit, what the bound protects one client",
        "Each single client is protected. Adding any one client, with all its records, to the training data",
        "someone who knows every other client",
        "a client's change is clipped 1/1024 below",
        "A person with several clients. The unit is one client.",
        "Clip norm 1 (the largest L2 norm that one client can add to a sum)",
        "Steps a round 5 of plain SGD on the device; their total change enters one noised sum",
        "Noised sums charged to one client, at most 4",
        "Neighbouring data differ by one client, added or removed",
    ):
        assert sentence in text
    for of_records in ("one record", "each record", "Sampling rate", "gradients are clipped"):
        assert of_records not in text


@pytest.mark.parametrize("noise", PLACES)
def test_a_plan_whose_unit_is_the_record_speaks_of_records(said: Callable[..., str], noise: str) -> None:
    text = said(study_of(noise))
    for sentence in (
        "Adding any one record to the training data",
        "float32 gradients are clipped",
        "Sampling rate 0.25",
    ):
        assert sentence in text
    assert "Noised sums charged to one client, at most 4" in text
    assert "with all its records" not in text


@pytest.mark.parametrize("noise", PLACES)
@pytest.mark.parametrize("unit", ["record", "client"])
def test_a_server_that_sees_participation_learns_no_data(said: Callable[..., str], unit: str, noise: str) -> None:
    """Against it a client's data are protected, and not that it takes part."""
    is_said = "whether a participating device contributes the client's data or no data" in said(study_of(noise, unit))
    assert is_said == (unit == "client" and noise != "central")


@pytest.mark.parametrize("noise", PLACES)
def test_no_sentence_is_left_with_a_hole(said: Callable[..., str], noise: str) -> None:
    for unit in ("record", "client", "none"):
        text = said(study_of(noise, unit), EPSILON if unit != "none" else dict.fromkeys(EPSILON))
        assert not re.search(r"[{}]| ,|\.\.|  |\bNone\b", text)
