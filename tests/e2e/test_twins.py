"""Two live nodes that are one device, on a real SuperLink: by one identity, or by a copy of a state folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bract.client.disk.pseudonym import Pseudonym

from .test_superlink import deal, lines, took_part

Start = Callable[..., Any]


@pytest.mark.full
@pytest.mark.e2e
@pytest.mark.parametrize(("protocol", "copied"), [("secagg", False), ("secagg", True), ("sum", True)])
def test_two_live_nodes_of_one_device_count_as_one_client(
    protocol: str, copied: bool, tiny_plan: Path, tmp_path: Path, federation: Start
) -> None:
    """The third device runs twice, with its own records, each time in a state folder of its own.

    What the server counts for it is what both nodes paid together: no record pays more than the plan claims. Each of
    the two folders knows its own part alone, as docs/deployment.md says. The server's log names the pair.
    """
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=3", "cohort.rounds=3", "privacy.noise=local", "cohort.deadline=150"]
    settings += [f"aggregation.protocol={protocol}", "aggregation.deadline=150"]
    configs = deal(tiny_plan, shards, 3, *settings)
    original, twin = shards / "state-2", shards / "state-twin"
    if copied:
        original.mkdir()
        Pseudonym(original).of("0" * 64)  # the secret that its names are made of is on disk
        shutil.copytree(original, twin)
    configs.append(configs[2].replace(str(original), str(twin)))
    command = {"plan": shards / "plan.toml", "out": out}
    command |= {"roster": shards / "roster.toml"} if protocol == "secagg" else {}
    with federation(configs) as real:
        real.run(**command).wait(900)
        logs = real.logs()
    served = Counter(name for entry in lines(out / "ledger.jsonl")[1:] for name in entry["clients"])
    assert sorted(served.values()) == [3, 3, 3], logs
    paid = [took_part(shards / f"state-{number}") for number in (0, 1)] + [took_part(original) + took_part(twin)]
    assert paid == [3, 3, 3], logs
    assert [line["survivors"] for line in lines(out / "metrics.jsonl")] == [3, 3, 3], logs
    assert "two nodes show one name" in logs
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["epsilon"]["server"] <= 8.0
