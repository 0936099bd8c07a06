"""Under masks too a device's answers, charges, journal and passes must tell none of its records.

What cannot be trained is refused when the device is asked for its keys: before it has a seat, and before any charge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from secure_devices import code_of, make_lab
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.records import Records
from bract.client.terms import Terms
from bract.models import NETWORKS, Network
from bract.models.networks.rnn import LastState
from bract.privacy.messages import KEYS, SHARES, TRAIN
from bract.privacy.secagg.identity import roster_of
from bract.privacy.server_view import Code

TERMS = Terms(max_epsilon=1e9, max_delta=1e-2, trusted_server=True)
COUNT = 51
CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("central", "distributed", "local")]


def tables(unit: str, noise: str, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    privacy = {"unit": unit, "noise": noise, "epsilon": 1e6, "noise_multiplier": 2.0}
    privacy["sampling_rate"] = 1.0 if unit == "client" else 0.5
    return {"privacy": privacy, "model": {"parameters": COUNT}} | more


def giving(server: Any, records: Records, folder: Path) -> None:
    """Let the first device bring these records and a ledger."""
    first = server.members[0]
    device = Device(
        records,
        TERMS,
        identity=first.identity,
        roster=roster_of(member.identity for member in server.members),
        journal=first.journal,
        spending=OwnerLedger(folder, TERMS),
    )
    first.app = make_app(lambda _: device)


def charges(folder: Path) -> list[str]:
    return (folder / LEDGER_FILE).read_text().splitlines()[1:] if (folder / LEDGER_FILE).exists() else []


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_one_record_more_changes_no_code_charge_step_or_pass(tmp_path: Path, unit: str, noise: str) -> None:
    seen = []
    for number, labels in enumerate(([], [0], [0, 2, 3], [-100] * 5)):
        server = make_lab(terms=TERMS, real=True, **tables(unit, noise))
        folder, known = tmp_path / str(number), torch.tensor(labels, dtype=torch.int64)
        giving(server, Records(torch.ones(len(labels), 1, 2, 2), known), folder)
        passes = list[Any]()
        server.keys()
        server.shares()
        hook = register_module_forward_pre_hook(
            lambda layer, inputs, passes=passes: passes.append((type(layer).__name__, tuple(inputs[0].shape)))
        )
        try:
            reply = server.tell(0, TRAIN, cohort=server.invitation(0))
        finally:
            hook.remove()
        words = [len(array.data) for record in reply.content.array_records.values() for array in record.values()]
        costs = [line.count(",") for line in charges(folder)]
        seen.append((code_of(reply), words, costs, passes, sorted(server.members[0].context.state)))
    assert all(each == seen[0] for each in seen)
    assert (seen[0][0], len(seen[0][2])) == (Code.OK, 1)
    assert seen[0][3]


def recurrent(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(2), LastState(nn.RNN(4, 3, batch_first=True)), nn.Linear(3, classes))


WAYS = {
    "another shape": (
        {},
        lambda count: Records(torch.ones(count, 4), torch.zeros(count, dtype=torch.int64)),
        Code.DATA,
    ),
    "a network that Opacus cannot train": (
        {"training": {"engine": "opacus"}, "model": {"name": "recurrent"}},
        lambda count: Records(torch.ones(count, 1, 2, 2), torch.zeros(count, dtype=torch.int64)),
        Code.PLAN,
    ),
    "a wrong number of parameters": (
        {"model": {"parameters": 5}},
        lambda count: Records(torch.ones(count, 1, 2, 2), torch.zeros(count, dtype=torch.int64)),
        Code.PLAN,
    ),
}


@pytest.mark.parametrize("kind", [KEYS, SHARES])
@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_trained_is_refused_before_a_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, count: int, kind: str
) -> None:
    """The device has no seat then."""
    monkeypatch.setitem(NETWORKS, "recurrent", Network("recurrent", recurrent))
    more, records, expected = WAYS[way]
    server = make_lab(terms=TERMS, real=True, **tables("record", "local", **more))
    giving(server, records(count), tmp_path)
    sections = {} if kind == KEYS else {"cards": b""}
    assert code_of(server.tell(0, kind, **sections)) is expected
    assert not charges(tmp_path)
