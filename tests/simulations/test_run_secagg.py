"""A simulated federation under masks gives what the clear sum gives, bit for bit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bract.client.secure_round import SEAT
from bract.privacy import override, read_tables
from bract.server.exchange import exchange
from bract.server.state import ServerState, read_checkpoint
from bract.simulations.local_grid import LocalGrid
from bract.simulations.run import simulate
from bract.simulations.study import make_study

SECURE = ["aggregation.protocol=secagg"]


def final(plan: Path, folder: Path, *settings: str) -> ServerState:
    simulate(make_study(override(read_tables(plan), settings)), folder)
    state = read_checkpoint(folder / "checkpoint.bract")
    assert state is not None
    return state


@pytest.mark.parametrize("noise", ["central", "local"])
@pytest.mark.parametrize(
    "how",
    [
        [],
        ["aggregation.mode=malicious-server"],
        ["aggregation.key_exchange=hybrid", "aggregation.bits=64"],
        ["cohort.size=3", "cohort.rounds=5"],
        ["privacy.unit=none"],
        ["privacy.unit=client", "privacy.sampling_rate=1", "training.local_steps=2"],
    ],
)
def test_masks_change_no_bit_of_the_model(noise: str, how: list[str], tiny_plan: Path, tmp_path: Path) -> None:
    settings = [f"privacy.noise={noise}", *how]
    clear = final(tiny_plan, tmp_path / "sum", *settings)
    masked = final(tiny_plan, tmp_path / "secagg", *settings, *SECURE)
    assert masked.round == clear.round
    np.testing.assert_array_equal(masked.parameters, clear.parameters)
    ledgers = [(tmp_path / name / "ledger.jsonl").read_text().splitlines()[1:] for name in ("sum", "secagg")]
    charges = [[(json.loads(line)["round"], json.loads(line)["clients"]) for line in lines] for lines in ledgers]
    assert charges[0] == charges[1]


def test_a_sum_beyond_its_range_is_said(tiny_plan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its hints lead to a range that holds it."""
    shared = [*SECURE, "privacy.noise=distributed", "cohort.rounds=1", "privacy.noise_multiplier=1"]
    shared += ["privacy.epsilon=1e6"]
    final(tiny_plan, tmp_path / "narrow", *shared, "aggregation.range=0.5", "aggregation.bits=12")
    assert "coordinates of the sum are at the ends of its range" in caplog.text
    for folder in ("wide", "wider"):
        hint = caplog.text.partition("aggregation.range = ")[2].partition(";")[0]
        caplog.clear()
        final(tiny_plan, tmp_path / folder, *shared, f"aggregation.range={float(hint)}")
    assert not caplog.text


def test_a_run_under_masks_goes_on_where_it_was_cut_off(tiny_plan: Path, tmp_path: Path) -> None:
    whole = final(tiny_plan, tmp_path / "whole", *SECURE)

    class Cut(Exception):
        pass

    class Cutting:
        def started(self, state, ledger) -> None: ...

        def answered(self) -> None: ...

        def finished_round(self, record) -> None:
            if record.round == 2:
                raise Cut

    study = make_study(override(read_tables(tiny_plan), SECURE))
    with pytest.raises(Cut):
        simulate(study, tmp_path / "cut", Cutting())
    simulate(study, tmp_path / "cut")
    resumed = read_checkpoint(tmp_path / "cut" / "checkpoint.bract")
    assert resumed is not None
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)


@pytest.mark.parametrize(("mode", "trips"), [("semi-honest", 2), ("malicious-server", 3)])
def test_a_round_takes_two_trips_and_three_if_servers_lie(
    mode: str, trips: int, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three against a lying server."""
    made: Counter[int] = Counter()

    def counted(grid, plan, requests, *rest):
        if requests:
            made[min(request.round for request in requests)] += 1
        return exchange(grid, plan, requests, *rest)

    monkeypatch.setattr("bract.server.aggregation.secure.exchange", counted)
    final(tiny_plan, tmp_path / "run", *SECURE, f"aggregation.mode={mode}")
    assert dict(made) == {1: trips + 2, 2: trips, 3: trips}


def test_devices_remember_nothing_of_rounds_that_are_over(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[LocalGrid] = []
    made = LocalGrid.__init__

    def noted(self: LocalGrid, *args, **kwargs) -> None:
        made(self, *args, **kwargs)
        grids.append(self)

    monkeypatch.setattr(LocalGrid, "__init__", noted)
    final(tiny_plan, tmp_path / "run", *SECURE)
    [grid] = grids
    assert [name for context in grid._contexts.values() for name in context.state if name.startswith(SEAT)] == []
