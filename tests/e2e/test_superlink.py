"""The same two apps on a real SuperLink with stock SuperNodes, started by `flwr run .` from the repository's root.

They take a minute or more: SuperNode starts a process for every message and polls every 3 s.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.cli.main import run
from bract.client.disk.pseudonym import Pseudonym
from bract.models import build, read_flat
from bract.privacy import Ledger, Plan, accept_plan, mechanism_of, override, read_tables
from bract.privacy.secagg.identity import read_roster
from bract.server.state import ServerState, read_checkpoint, write_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import make_study

Start = Callable[..., Any]


def deal(
    plan: Path, folder: Path, clients: int, *settings: str, size: int | None = None, limit: float = 8.0
) -> list[str]:
    """Write the plan's shards and the terms of their owners; return each node's configuration.

    All of them are in each cohort, if no `size` is given.
    """
    chosen = [f"data.clients={clients}", "data.split=iid", f"cohort.size={size or clients}", *settings]
    words = [word for setting in chosen for word in ("--set", setting)]
    assert run(["partition", str(plan), "--out", str(folder), *words]) == 0
    secure = (folder / "roster.toml").exists()
    (folder / "terms.toml").write_text(
        f"max_epsilon = {limit}\ntrusted_server = true\nclear_updates = {str(not secure).lower()}\n"
    )
    whole = 'data="{0}/client-{1:03d}.npz" terms="{0}/terms.toml" state="{0}/state-{1}"'
    if secure:
        whole += ' identity="{0}/client-{1:03d}.pem" roster="{0}/roster.toml"'
    return [whole.format(folder, number) for number in range(clients)]


def took_part(state: Path) -> int:
    """How often the device with this state folder took part, by its own ledger."""
    return len(lines(state / "spent.jsonl")[1:])


def wait_until(come: Callable[[], bool], started: Any) -> None:
    """Wait until something has come, or the run has ended."""
    while not come() and started.poll() is None:
        time.sleep(0.1)


def lines(path: Path) -> list[dict[str, Any]]:
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # it may be being written
    return [json.loads(line) for line in whole.splitlines()]


@pytest.mark.full
@pytest.mark.e2e
@pytest.mark.parametrize("noise", ["central", "local"])
def test_flwr_run_trains_on_real_nodes(noise: str, tiny_plan: Path, tmp_path: Path, federation: Start) -> None:
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=2", "cohort.rounds=2", f"privacy.noise={noise}", "cohort.deadline=120"]
    with federation(deal(tiny_plan, shards, 2, *settings)) as real:
        real.run(plan=shards / "plan.toml", out=out, test_data=shards / "test.npz").wait(400)
    rounds = lines(out / "metrics.jsonl")
    assert [line["survivors"] for line in rounds] == [2, 2], real.logs()
    assert all("accuracy" in line["figures"] for line in rounds)
    assert (rounds[-1]["epsilon"]["server"] is None) == (noise == "central")
    assert rounds[-1]["epsilon"]["released"] <= 8.0
    assert len((out / "ledger.jsonl").read_text().splitlines()) == 1 + 2
    assert (out / "model.safetensors").exists()
    assert [len(lines(shards / f"state-{number}" / "spent.jsonl")) for number in (0, 1)] == [1 + 2] * 2


@pytest.mark.full
@pytest.mark.e2e
def test_devices_refuse_another_server_once_their_limit_is_spent(
    tiny_plan: Path, tmp_path: Path, federation: Start
) -> None:
    """The plan spends epsilon 2, which is all that the owners allow; then everything is started anew."""
    shards = tmp_path / "shards"
    settings = ["cohort.minimum=2", "cohort.rounds=2", "privacy.noise=local", "privacy.epsilon=2"]
    configs = deal(tiny_plan, shards, 2, *settings, "cohort.deadline=120", limit=2.0)
    for name in ("first", "second"):
        with federation(configs) as real:
            real.run(plan=shards / "plan.toml", out=tmp_path / name).wait(400)
            logs = real.logs()
        rounds = lines(tmp_path / name / "metrics.jsonl")
        assert [line["codes"] for line in rounds] == ([{"ok": 2}] * 2 if name == "first" else []), logs
    assert "2 said refused" in logs
    assert "its terms allow 2 at delta 0.001" in logs
    assert [len(lines(shards / f"state-{number}" / "spent.jsonl")) for number in (0, 1)] == [1 + 2] * 2
    assert not (tmp_path / "second" / "model.safetensors").exists()


@pytest.mark.full
@pytest.mark.e2e
def test_secure_aggregation_goes_on_when_a_node_is_killed(tiny_plan: Path, tmp_path: Path, federation: Start) -> None:
    """Three nodes share the noise under masks; one is killed after it has uploaded its shares for round 2."""
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=2", "cohort.rounds=4", "aggregation.protocol=secagg", "cohort.deadline=150"]
    settings += ["privacy.noise=distributed", "aggregation.dropouts=0.34"]
    with federation(deal(tiny_plan, shards, 3, *settings, "aggregation.deadline=150")) as real:
        started = real.run(plan=shards / "plan.toml", out=out, roster=shards / "roster.toml")
        wait_until(lambda: bool(lines(out / "metrics.jsonl")), started)  # now the shares of round 2 are in, too
        real.kill(2)
        started.wait(600)
    rounds = lines(out / "metrics.jsonl")
    assert [line["survivors"] for line in rounds] == [3, 2, 2, 2], real.logs()
    assert [line["cohort"] for line in rounds][:2] == [3, 3]
    charged = [len(line["clients"]) for line in lines(out / "ledger.jsonl")[1:]]
    assert charged == [3, 2, 2, 2]
    assert rounds[-1]["epsilon"]["server"] <= 8.0
    assert (out / "model.safetensors").exists()
    assert "round 2, asked to train: late: client-002" in real.logs()


@pytest.mark.full
@pytest.mark.e2e
def test_a_round_with_too_few_nodes_is_lost_and_replaced(tiny_plan: Path, tmp_path: Path, federation: Start) -> None:
    """Rounds of three of four nodes need all three. The node that sat out the first is killed in the second."""
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=3", "cohort.rounds=3", "cohort.deadline=150"]
    settings += ["privacy.noise=local", "aggregation.protocol=secagg", "aggregation.deadline=150"]
    configs = deal(tiny_plan, shards, 4, *settings, size=3)
    names = {key.hex(): name for key, name in read_roster(shards / "roster.toml").names.items()}
    with federation(configs) as real:
        started = real.run(plan=shards / "plan.toml", out=out, roster=shards / "roster.toml")
        wait_until(lambda: len(lines(out / "metrics.jsonl")) == 1, started)
        [first] = [entry["clients"] for entry in lines(out / "ledger.jsonl")[1:]]
        [rested] = set(names) - set(first)
        real.kill(int(names[rested][-3:]))
        started.wait(900)
        logs = real.logs()
    assert [line["lost"] for line in lines(out / "metrics.jsonl")] == [False, True, False], logs
    assert f"round 2, asked to train: late: {names[rested]}" in logs
    assert "round 2 is lost and charged; round 3 takes its place" in logs
    assert "2 releases of 3 planned: lost round 2" in logs
    assert (out / "model.safetensors").exists()
    served = Counter(names[key] for entry in lines(out / "ledger.jsonl")[1:] for key in entry["clients"])
    taken = {name: took_part(shards / f"state-{int(name[-3:])}") for name in names.values()}
    killed = names[rested]
    assert served[killed] == 1 >= taken.pop(killed)  # the server cannot know, so it counts the round
    assert {name: served[name] for name in taken} == taken, logs
    assert sorted(taken.values()) == [2, 3, 3]


@pytest.mark.full
@pytest.mark.e2e
def test_after_a_crash_no_device_takes_part_too_often(tiny_plan: Path, tmp_path: Path, federation: Start) -> None:
    """The server's machine and all nodes lose their power in round 2; then Flower numbers run and nodes anew."""
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["cohort.minimum=2", "cohort.rounds=3", "privacy.noise=local", "cohort.deadline=150"]
    configs = deal(tiny_plan, shards, 3, *settings, size=2)
    states = [shards / f"state-{number}" for number in range(3)]
    command = {"plan": shards / "plan.toml", "out": out}
    with federation(configs) as real:
        started = real.run(**command)
        wait_until(lambda: sum(map(took_part, states)) == 2 * 2, started)
        real.kill_server()
        for number in range(3):
            real.kill(number)
        started.kill()
        started.wait()
        logs = real.logs()
    assert [line["round"] for line in lines(out / "ledger.jsonl")[1:]] == [1, 2], logs
    plan = accept_plan((out / "plan.toml").read_text()).plan
    assert plan.study.id is not None
    assert plan.participations == 2
    with federation(configs) as real:
        real.run(**command).wait(900)
        logs = real.logs()
    served = Counter(client for line in lines(out / "ledger.jsonl")[1:] for client in line["clients"])
    assert [line["round"] for line in lines(out / "ledger.jsonl")[1:]] == [1, 2, 2], logs
    assert served == {Pseudonym(state).of(plan.digest): took_part(state) for state in states}, logs
    assert set(served.values()) == {plan.participations}
    runs = [{line["origin"]["run"] for line in lines(state / "spent.jsonl")[1:]} for state in states]
    assert len(set.union(*runs)) == 2  # both of Flower's runs count
    assert "stopped after round 2 of 3: every available client took part as often as planned" in logs
    assert (out / "model.safetensors").exists()


def begin(folder: Path, plan: Plan, parameters: np.ndarray) -> None:
    """Write the state before the first round, so that a run starts from these parameters."""
    folder.mkdir()
    with Ledger(folder / "ledger.jsonl", mechanism_of(plan).budget, plan.digest) as ledger:
        state = ServerState(0, parameters, parameters, {}, ledger.head, plan.digest)
    write_checkpoint(folder / "checkpoint.bract", state)


@pytest.mark.full
@pytest.mark.e2e
def test_a_deployment_under_masks_learns_what_a_simulation_does(
    tiny_plan: Path, tmp_path: Path, federation: Start
) -> None:
    """In malicious-server mode, with all records in each step and next to no noise: the models must agree."""
    shards, out, simulated = tmp_path / "shards", tmp_path / "deployed", tmp_path / "simulated"
    settings = ["cohort.minimum=2", "cohort.rounds=2", "cohort.deadline=120", "aggregation.mode=malicious-server"]
    settings += ["privacy.sampling_rate=1.0", "privacy.noise_multiplier=1e-4", "privacy.epsilon=1e12"]
    configs = deal(tiny_plan, shards, 2, *settings, "aggregation.protocol=secagg")
    (shards / "terms.toml").write_text("max_epsilon = 1e12\ntrusted_server = true\nmalicious_server = true\n")
    parameters = read_flat(build("cnn", (1, 12, 12), 3, seed=5))
    begin(out, accept_plan((shards / "plan.toml").read_text()).plan, parameters)
    with federation(configs) as real:
        real.run(plan=shards / "plan.toml", out=out, roster=shards / "roster.toml").wait(600)
    assert [line["survivors"] for line in lines(out / "metrics.jsonl")] == [2, 2], real.logs()
    study = make_study(override(read_tables(shards / "plan.toml"), ["aggregation.protocol=sum"]))
    begin(simulated, study, parameters)
    simulate(study, simulated)
    learned, expected = (read_checkpoint(folder / "checkpoint.bract") for folder in (out, simulated))
    assert learned is not None
    assert expected is not None
    moved = np.abs(expected.parameters - parameters).max()
    assert np.abs(learned.parameters - expected.parameters).max() < 0.01 * moved
