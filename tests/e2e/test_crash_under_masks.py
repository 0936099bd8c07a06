"""The power fails under masks, on a real SuperLink: neither side's ledger says less than was spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bract.privacy.secagg.identity import read_roster

from .test_superlink import deal, lines, took_part, wait_until

Start = Callable[..., Any]


@pytest.mark.full
@pytest.mark.e2e
@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_a_crash_under_masks_leaves_no_round_uncounted(
    noise: str, tiny_plan: Path, tmp_path: Path, federation: Start
) -> None:
    """Server and a node are killed as soon as one device has paid for round 2; the same command then goes on."""
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=3", "cohort.rounds=3", "aggregation.protocol=secagg", "cohort.deadline=150"]
    settings += [f"privacy.noise={noise}", "aggregation.deadline=150"]
    settings += ["aggregation.dropouts=0.0"] if noise == "distributed" else []
    configs = deal(tiny_plan, shards, 3, *settings)
    states = [shards / f"state-{number}" for number in range(3)]
    command = {"plan": shards / "plan.toml", "out": out, "roster": shards / "roster.toml"}
    with federation(configs) as real:
        started = real.run(**command)
        wait_until(lambda: max(map(took_part, states)) == 2, started)
        real.kill_server()
        real.kill(2)
        started.kill()
        started.wait()
        before = real.logs()
    released = len(lines(out / "metrics.jsonl"))
    assert released <= len(lines(out / "ledger.jsonl")[1:]), before
    with federation(configs) as real:
        real.run(**command).wait(900)
        logs = real.logs()
    served = Counter(name for entry in lines(out / "ledger.jsonl")[1:] for name in entry["clients"])
    names = {name: key.hex() for key, name in read_roster(shards / "roster.toml").names.items()}
    for number, state in enumerate(states):
        assert took_part(state) <= served[names[f"client-{number:03d}"]] <= 3, before + logs
    assert len(lines(out / "metrics.jsonl")) == 2, logs
    assert "stopped after round 2 of 3: every available client took part as often as planned" in logs
    assert (out / "model.safetensors").exists()
