"""Rounds that come to nothing, in the clear: which are tried again, which are lost, what it costs, what is said."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from bract.privacy import Ledger, Plan, RoundError, SystemEntropy, mechanism_of
from bract.privacy.mechanisms.correlation import Correlation
from bract.privacy.messages import OFFER
from bract.privacy.server_view import ANSWER
from bract.server import retries, rounds
from bract.server.answers import RoundFailed
from bract.server.round_log import Metrics, RoundRecord
from bract.server.rounds import train
from bract.server.state import read_checkpoint
from bract.server.training import NullObserver, Outcome, TrainingRun
from bract.simulations.local_grid import FIRST_NODE, LocalGrid

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
CLIENTS = 4
NODES = list(range(FIRST_NODE, FIRST_NODE + CLIENTS))
NAMES = [str(number) for number in range(CLIENTS)]
PAUSES = (1.0, 2.0, 4.0)
NOISES = ["central", "local"]


class Hearing(NullObserver):
    """Keeps what an operator would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(line)

    def finished_round(self, record: RoundRecord) -> None:
        self.lines.append(f"finished {record.round}{' lost' if record.lost else ''}")


class Fleet:
    """Four devices; `faults` holds, by round and node, what becomes of each time it is asked: a code, or "late".

    A device that trained in a round, as far as it knows, says `malformed` when it is asked again, as real ones do.
    """

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.faults: dict[tuple[int, int], list[str]] = {}
        self.asked: list[tuple[int, int]] = []
        self.trained: set[tuple[int, int]] = set()
        self.waited: list[float] = []
        self.hearing = Hearing()
        monkeypatch.setattr(retries, "wait", self.waited.append)
        monkeypatch.setattr("bract.server.exchange.POLL_SECONDS", 0.0)

    def fail(self, number: int, nodes: list[int], *codes: str) -> None:
        """Have these nodes answer with these codes, one each time that they are asked in the round."""
        self.faults |= {(number, node): list(codes) for node in nodes}

    def work(self, app: App, work: Any) -> Iterator[Message]:
        for message, context in work:
            number, node = int(str(message.content.config_records[OFFER]["round"])), context.node_id
            self.asked.append((number, node))
            codes = self.faults.get((number, node), [])
            code = codes.pop(0) if codes else "ok"
            if (number, node) in self.trained:
                code = "malformed"
            if code in ("ok", "late"):
                self.trained.add((number, node))
            if code == "ok":
                yield self.app(message, context)
            elif code != "late":
                yield Message(RecordDict({ANSWER: ConfigRecord({"code": code})}), reply_to=message)

    def grid(self, clients: int = CLIENTS) -> LocalGrid:
        return LocalGrid(self.app, clients, self.work)

    def train(self, plan: Plan, folder: Path, pauses: tuple[float, ...] = PAUSES, **parts: Any) -> Outcome:
        return train(
            self.grid(), TrainingRun(mechanism_of(plan), folder, observer=self.hearing, pauses=pauses, **parts)
        )


@pytest.fixture
def fleet(counter: App, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(counter, monkeypatch)


@pytest.fixture
def plan(make: Make) -> Plan:
    """Three rounds, each of which needs three of four devices."""
    return make(cohort={"minimum": 3, "deadline": 0.005})


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()[1:]]


class TestARoundThatNobodyTookPartIn:
    def test_is_tried_again_under_its_number_and_charged_once(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(2, NODES, "lost", "lost")
        outcome = fleet.train(plan, tmp_path)
        assert outcome.state.round == outcome.releases == 3
        assert [entry["round"] for entry in entries(tmp_path)] == [1, 2, 3]
        assert fleet.waited == [1.0, 2.0]
        assert "round 2 is tried again, nothing was charged: try 2 of 4, in 1 s" in fleet.hearing.lines
        assert [line for line in fleet.hearing.lines if line.startswith("finished")] == [
            "finished 1", "finished 2", "finished 3",
        ]  # fmt: skip

    def test_for_want_of_devices_waits_for_them(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        class Filling(LocalGrid):
            def get_node_ids(self) -> list[int]:
                return NODES[: 2 + len(fleet.waited)]

        grid = Filling(fleet.app, CLIENTS, fleet.work)
        outcome = train(grid, TrainingRun(mechanism_of(plan), tmp_path, observer=fleet.hearing, pauses=PAUSES))
        assert outcome.releases == 3
        assert fleet.waited == [1.0]
        assert fleet.hearing.lines[0] == "round 1: 2 devices are connected, the round needs 3"

    def test_is_tried_a_bounded_number_of_times_with_growing_pauses(
        self, fleet: Fleet, plan: Plan, tmp_path: Path
    ) -> None:
        fleet.fail(2, NODES, *["lost"] * 9)
        with pytest.raises(RoundFailed, match=r"0 of 4 devices .* \(4 said lost\)"):
            fleet.train(plan, tmp_path)
        assert fleet.waited == list(PAUSES)
        assert Counter(fleet.asked)[2, NODES[0]] == len(PAUSES) + 1
        assert [entry["round"] for entry in entries(tmp_path)] == [1]

    def test_counts_its_tries_in_a_row(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        """A round that is released gives the next one all its tries."""
        for number in (1, 2, 3):
            fleet.fail(number, NODES, *["lost"] * len(PAUSES))
        assert fleet.train(plan, tmp_path).releases == 3
        assert fleet.waited == [*PAUSES] * 3

    @pytest.mark.parametrize("code", ["refused", "plan", "data", "roster"])
    def test_because_all_refuse_is_not_tried_again(self, fleet: Fleet, plan: Plan, tmp_path: Path, code: str) -> None:
        fleet.fail(2, NODES, *[code] * 9)
        with pytest.raises(RoundFailed, match=f"4 said {code}"):
            fleet.train(plan, tmp_path)
        assert fleet.waited == []

    def test_because_all_refuse_to_give_names_is_not_tried_again(
        self, fleet: Fleet, plan: Plan, tmp_path: Path
    ) -> None:
        class Refusing(LocalGrid):
            def _named(self, message: Message) -> Message:
                return Message(RecordDict({ANSWER: ConfigRecord({"code": "refused"})}), reply_to=message)

        grid = Refusing(fleet.app, CLIENTS, fleet.work)
        with pytest.raises(RoundFailed, match=r"^error: 0 devices showed a name, .* needs 3 \(4 said refused\)"):
            train(grid, TrainingRun(mechanism_of(plan), tmp_path, observer=fleet.hearing, pauses=PAUSES))
        assert fleet.waited == []
        assert entries(tmp_path) == []

    def test_because_some_refuse_to_give_names_waits_for_others(
        self, fleet: Fleet, plan: Plan, tmp_path: Path
    ) -> None:
        class Refusing(LocalGrid):
            def _named(self, message: Message) -> Message:
                if message.metadata.dst_node_id in NODES[2:] and not fleet.waited:
                    return Message(RecordDict({ANSWER: ConfigRecord({"code": "refused"})}), reply_to=message)
                return super()._named(message)

        grid = Refusing(fleet.app, CLIENTS, fleet.work)
        outcome = train(grid, TrainingRun(mechanism_of(plan), tmp_path, observer=fleet.hearing, pauses=PAUSES))
        assert outcome.releases == 3
        assert fleet.hearing.lines[0] == "round 1: 2 devices showed a name, the round needs 3 (2 said refused)"

    def test_is_the_end_at_once_where_no_pauses_are_given(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(1, NODES, "lost")
        with pytest.raises(RoundError):
            fleet.train(plan, tmp_path, pauses=())
        assert fleet.waited == []


class TestARoundThatSomeTookPartIn:
    @pytest.mark.parametrize("noise", NOISES)
    @pytest.mark.parametrize("code", ["late", "failed", "malformed"])
    def test_is_lost_and_charged_and_the_next_takes_its_place(
        self, fleet: Fleet, make: Make, tmp_path: Path, noise: str, code: str
    ) -> None:
        """A device trains once a round, and charges itself for it: the ledger of the server counts the same."""
        plan = make(privacy={"noise": noise}, cohort={"minimum": 3, "deadline": 0.005})
        fleet.fail(2, NODES[:2], code)
        outcome = fleet.train(plan, tmp_path)
        assert outcome.state.round == 3
        assert [record.lost for record in outcome.records] == [False, True, False]
        assert outcome.releases == 2
        assert [(entry["round"], entry["clients"]) for entry in entries(tmp_path)] == [
            (1, NAMES), (2, NAMES), (3, NAMES),
        ]  # fmt: skip
        assert Counter(fleet.asked) == Counter((number, node) for number in (1, 2, 3) for node in NODES)
        assert outcome.epsilon["released"] == pytest.approx(mechanism_of(plan).cost())

    def test_changes_nothing_but_the_number(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(2, NODES[:2], "late")
        kept: dict[int, Any] = {}

        class Keeping(Hearing):
            def finished_round(self, record: RoundRecord) -> None:
                kept[record.round] = read_checkpoint(tmp_path / "checkpoint.bract")

        fleet.hearing = Keeping()
        fleet.train(plan, tmp_path)
        assert np.array_equal(kept[1].parameters, kept[2].parameters)
        assert np.array_equal(kept[1].model, kept[2].model)
        assert not np.array_equal(kept[2].parameters, kept[3].parameters)

    def test_is_said_to_be_lost_and_charged(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(2, NODES[:2], "late")
        fleet.train(plan, tmp_path)
        assert fleet.hearing.lines[1:5] == [
            "round 2, asked to train: late: device 0, device 1",
            "finished 2 lost",
            "round 2: 2 of 4 devices sent an update, the round needs 3 (2 said ok, 2 late)",
            "round 2 is lost and charged; round 3 takes its place: try 2 of 4, in 1 s",
        ]
        assert "one release fewer" in fleet.hearing.lines[5]

    def test_does_not_charge_the_devices_that_refused(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(2, NODES[:2], "refused")
        with pytest.raises(RoundFailed):
            fleet.train(plan, tmp_path)
        assert entries(tmp_path)[1]["clients"] == NAMES[2:]

    def test_is_lost_even_where_it_ends_the_run(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        """The devices know what they did: a run that goes on in the folder must not ask for the round again."""
        fleet.fail(2, NODES[:2], "late")
        with pytest.raises(RoundFailed):
            fleet.train(plan, tmp_path, pauses=())
        outcome = fleet.train(plan, tmp_path, pauses=())
        assert [record.round for record in outcome.records if record.lost] == [2]
        assert outcome.releases == 2
        assert [entry["round"] for entry in entries(tmp_path)] == [1, 2, 3]

    def test_and_is_the_last_one_ends_the_run(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(3, NODES[:2], "late")
        outcome = fleet.train(plan, tmp_path)
        assert (outcome.state.round, outcome.releases, fleet.waited) == (3, 2, [])
        assert fleet.hearing.lines[-1] == "round 3 is lost and charged; it was the last one planned"

    def test_begins_noise_afresh_that_takes_earlier_rounds_back(
        self, fleet: Fleet, make: Make, tmp_path: Path
    ) -> None:
        """Rounds are told apart by their numbers: a lost one has no noise, so what comes after takes none back."""
        plan = make(
            privacy={"unit": "client", "bands": 2, "sampling_rate": 1.0},
            cohort={"size": 2, "minimum": 2, "rounds": 6, "deadline": 0.005},
        )
        assert plan.correlated
        state: list[Any] = []

        class Keeping(Hearing):
            def finished_round(self, record: RoundRecord) -> None:
                state.append(read_checkpoint(tmp_path / "checkpoint.bract"))

        fleet.hearing = Keeping()
        fleet.fail(3, NODES, "late")
        fleet.train(plan, tmp_path)
        assert len(state[1].noise.past) == 1
        assert state[2].noise.past == Correlation(state[1].noise.weights).past == ()
        assert state[2].block == state[2].ledger_head != state[1].block


class TestADeviceThat:
    def test_refuses_is_not_asked_again_in_the_tries_that_follow(
        self, fleet: Fleet, plan: Plan, tmp_path: Path
    ) -> None:
        fleet.fail(1, NODES[:1], "refused")
        fleet.fail(1, NODES[1:], "lost", "lost")
        fleet.train(plan, tmp_path)
        assert Counter(node for number, node in fleet.asked if number == 1) == {
            NODES[0]: 1, NODES[1]: 3, NODES[2]: 3, NODES[3]: 3,
        }  # fmt: skip

    def test_answers_wrongly_is_asked_again_if_others_are_too_few(
        self, fleet: Fleet, make: Make, tmp_path: Path
    ) -> None:
        """It is not asked if they are enough."""
        plan = make(cohort={"size": 3, "minimum": 2, "deadline": 0.005, "rounds": 4})
        fleet.fail(1, NODES, "failed")
        fleet.train(plan, tmp_path, pauses=(0.0,) * 5)
        first = [node for number, node in fleet.asked if number == 1]
        second = [node for number, node in fleet.asked if number == 2]
        assert len(first) == 3
        assert set(NODES) - set(first) <= set(second)

    def test_refuses_is_said_to_be_why_too_few_are_left(self, fleet: Fleet, plan: Plan, tmp_path: Path) -> None:
        fleet.fail(1, NODES[:2], "refused")
        fleet.fail(1, NODES[2:], "lost")
        with pytest.raises(RoundFailed, match="of 4 connected devices 2 refuse, the round needs 3"):
            fleet.train(plan, tmp_path)


CRASHES = {
    "before the charge": (Ledger, "spend", False),
    "after the charge": (Ledger, "spend", True),
    "before the record": (Metrics, "write", False),
    "after the record": (Metrics, "write", True),
    "before the checkpoint": (rounds, "write_checkpoint", False),
    "after the checkpoint": (rounds, "write_checkpoint", True),
    "while it waits": (retries, "wait", False),
}


def killed(owner: Any, name: str, after: bool, now: Callable[[], bool], run: Callable[[], Any]) -> None:
    """Run in a process of its own, which ends by SIGKILL before or after it calls a function of an owner's."""
    original = getattr(owner, name)

    def deadly(*arguments: Any) -> Any:
        if not now():
            return original(*arguments)
        if after:
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            setattr(owner, name, deadly)
            run()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("place", CRASHES)
@pytest.mark.parametrize("noise", NOISES)
def test_a_server_killed_in_a_lost_round_can_go_on(
    fleet: Fleet, make: Make, tmp_path: Path, place: str, noise: str
) -> None:
    """Wherever in it, within the budget."""
    plan = make(privacy={"noise": noise}, cohort={"minimum": 3, "deadline": 0.005})
    fleet.fail(2, NODES[:2], "late")
    killed(
        *CRASHES[place],
        now=lambda: any(number == 2 for number, _ in fleet.asked),
        run=lambda: fleet.train(plan, tmp_path, entropy=SystemEntropy()),
    )
    before = entries(tmp_path)
    assert [entry["round"] for entry in before] == list(range(1, len(before) + 1))
    fleet.faults.clear()
    outcome = fleet.train(plan, tmp_path)
    spent = entries(tmp_path)
    assert spent[: len(before)] == before
    assert len(spent) <= 3
    assert outcome.epsilon["released"] <= plan.privacy.epsilon
    assert outcome.state.round >= 2
    assert outcome.state.round == 3 or outcome.stopped is not None
    assert [record.round for record in outcome.records] == list(range(1, outcome.state.round + 1))
