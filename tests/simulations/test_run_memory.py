"""What a simulation keeps in memory: no more for many rounds than for a few, and no secrets once it is over.

Objects are counted, not bytes.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import ConfigRecord

from bract.client.disk.step_journal import MemoryJournal
from bract.privacy import BudgetError, RoundError, override, read_tables
from bract.privacy.secagg.identity import verified
from bract.privacy.secagg.keys import Card, PublicKeys, read_card
from bract.privacy.secagg.unmask import TooFewShares
from bract.server import rounds
from bract.server.round_log import RoundRecord
from bract.server.training import NullObserver
from bract.simulations.run import simulate
from bract.simulations.study import Study, make_study

SECURE = ["aggregation.protocol=secagg", "aggregation.colluders=0.2", "model.name=logistic"]
EARLY, LATE = 3, 9


def study_of(plan: Path, *settings: str) -> Study:
    return make_study(override(read_tables(plan), [*SECURE, *settings]))


def journals() -> list[MemoryJournal]:
    return [found for found in gc.get_objects() if type(found) is MemoryJournal]


class Counting(NullObserver):
    """Counts what is kept after each round."""

    def __init__(self) -> None:
        self.kept: dict[int, Counter[str]] = {}

    def finished_round(self, record: RoundRecord) -> None:
        gc.collect()
        kinds = (Card, PublicKeys, ConfigRecord)
        count = Counter({kind.__name__: sum(type(o) is kind for o in gc.get_objects()) for kind in kinds})
        count["steps"] = sum(len(journal.pages.steps) for journal in journals())
        count["shown"] = sum(len(journal.pages.cards) for journal in journals())
        count["cached"] = sum(computed.cache_info().currsize for computed in (read_card, verified))
        self.kept[record.round] = count


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
def test_more_rounds_take_no_more_memory(mode: str, tiny_plan: Path, tmp_path: Path) -> None:
    counting = Counting()
    simulate(study_of(tiny_plan, "cohort.rounds=10", f"aggregation.mode={mode}"), tmp_path / "run", counting)
    assert counting.kept[EARLY]["ConfigRecord"] > 0
    assert counting.kept[LATE] == counting.kept[EARLY]


def kept() -> list[ConfigRecord]:
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is ConfigRecord and {"held", "own"} <= set(found)]


@pytest.fixture
def seats() -> Callable[[], list[ConfigRecord]]:
    """A function: what devices remember of a round that is under way, but for those of other tests."""
    others = kept()
    return lambda: [found for found in kept() if not any(found is other for other in others)]


def test_the_secrets_of_an_unopened_last_round_are_let_go_of(
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seats: Callable[[], list[ConfigRecord]],
) -> None:
    seen = []

    def unopened(*arguments: object) -> None:
        seen.extend(seats())
        raise TooFewShares

    monkeypatch.setattr("bract.server.aggregation.secure.unmask", unopened)
    with pytest.raises(RoundError) as held:  # whoever holds the error holds the frames of the round
        simulate(study_of(tiny_plan), tmp_path / "run")
    assert seen
    assert any(seat["own"] for seat in seen)
    seen.clear()
    assert held.value.what
    assert seats() == []


def test_a_run_ended_by_its_budget_keeps_no_last_round(
    tiny_plan: Path, tmp_path: Path, seats: Callable[[], list[ConfigRecord]]
) -> None:
    """Nothing of its last round."""
    stopped = []
    outcome = rounds.Outcome

    def remember(*arguments: object) -> object:
        made = outcome(*arguments)
        stopped.append(made.stopped)
        return made

    class Spent(NullObserver):
        def started(self, state: object, ledger: object) -> None:
            spend = ledger.spend

            def once(entry: object) -> None:
                if entry.round > 1:
                    raise BudgetError("the budget is spent", "plan for fewer rounds")
                spend(entry)

            ledger.spend = once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "Outcome", remember)
        assert simulate(study_of(tiny_plan), tmp_path / "run", Spent()).rounds == 1
    [fault] = stopped
    assert fault.__traceback__ is None
    assert seats() == []
