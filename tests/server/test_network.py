"""A plan that no device could train is refused before a run of it is begun, in two lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from bract.cli.main import run
from bract.models import NETWORKS, Network, count_parameters
from bract.privacy import Plan, PlanError, make_plan
from bract.privacy.accept import accept_plan
from bract.server.network import check_trainable

FAULTS = {
    "rnn under Opacus": (["model.name=rnn", "training.engine=opacus"], "Opacus cannot train rnn"),
    "a network that Opacus cannot train": (
        ["model.name=mixed", "training.engine=opacus"],
        "Opacus cannot train mixed",
    ),
    "a wrong number of parameters": (["model.parameters=3"], "model.parameters is 3, cnn has 121930"),
    "no such records": (["data.shape=[3]"], "cnn takes records of shape"),
}


@pytest.fixture(autouse=True)
def mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of a recurrent layer and one that book-keeping has no rule for."""

    class Last(nn.GRU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
            return super().forward(x.flatten(1, -2))[0][:, -1]

    monkeypatch.setitem(
        NETWORKS,
        "mixed",
        Network(
            "mixed",
            lambda shape, classes: nn.Sequential(Last(shape[-1], 4, batch_first=True), nn.Linear(4, classes)),
        ),
    )


def plan(*settings: str, **privacy: Any) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {"data": {"shape": [1, 28, 28]}, "privacy": privacy}
    for setting in settings:
        path, value = setting.split("=")
        table, key = path.split(".")
        tables.setdefault(table, {})[key] = value if value.isidentifier() else json.loads(value)
    return tables


@pytest.mark.parametrize("fault", FAULTS)
def test_is_refused_by_a_server_before_it_opens_anything(fault: str) -> None:
    settings, why = FAULTS[fault]
    with pytest.raises(PlanError, match=why):
        check_trainable(make_plan(plan(*settings), Plan, count=count_parameters))


CASES = [(command, fault) for command in ("simulate", "budget") for fault in FAULTS]
CASES = [case for case in CASES if case[0] == "simulate" or case[1] in list(FAULTS)[::2]]
"""`bract budget` does without torch: of networks it knows no more than their names and sizes."""


@pytest.mark.parametrize(("command", "fault"), CASES)
def test_is_refused_on_the_command_line(
    command: str, fault: str, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, why = FAULTS[fault]
    words = [word for setting in settings for word in ("--set", setting)]
    assert run([command, "digits-central-eps8", *words]) == 2
    said = capsys.readouterr().err
    assert why in " ".join(said.split())
    assert said.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_of_clients_does_not_ask_for_an_engine() -> None:
    tables = plan("model.name=rnn", "training.engine=opacus", unit="client", noise="central", sampling_rate=1.0)
    check_trainable(make_plan(tables, Plan, count=count_parameters))


def test_is_read_where_it_says_how_many_parameters_there_are() -> None:
    text = make_plan(plan("model.parameters=121930"), Plan).offered()
    assert accept_plan(text, count_parameters).plan.parameters == 121930
