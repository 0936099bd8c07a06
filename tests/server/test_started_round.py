"""The note of a round under way: what it makes of odd files, and that a round is charged by it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bract.privacy import BudgetError, Entry, Plan, StateError, StorageError, mechanism_of
from bract.server.started_round import (
    STARTED_ROUND_FILE,
    StartedRound,
    forget_start,
    record_start,
    settle_interrupted,
)
from bract.server.training import TrainingRun

COHORT = ("a", "b")


@pytest.fixture
def training(make: Callable[..., Plan], tmp_path: Path) -> TrainingRun:
    return TrainingRun(mechanism_of(make().named("ab" * 16)), tmp_path)


def test_a_round_cut_off_is_charged_to_its_cohort_once(training: TrainingRun) -> None:
    """To the whole cohort."""
    with training.open_ledger() as ledger:
        assert settle_interrupted(training, ledger) is None
        record_start(training, StartedRound(1, COHORT, ledger.head))
        begun = settle_interrupted(training, ledger)
        assert begun is not None
        assert (begun.round, begun.clients) == (1, COHORT)
        assert settle_interrupted(training, ledger) is None
        assert dict(ledger.participations()) == {"a": 1, "b": 1}


def test_the_charge_is_what_a_round_of_the_plan_costs(make: Callable[..., Plan], tmp_path: Path) -> None:
    mechanism = mechanism_of(make(privacy={"noise": "central"}).named("ab" * 16))
    training = TrainingRun(mechanism, tmp_path)
    assert mechanism.server_event != mechanism.round_event
    with training.open_ledger() as ledger:
        for number in (1, 2):
            record_start(training, StartedRound(number, COHORT, ledger.head))
            settle_interrupted(training, ledger)
        found = [(entry.round, entry.clients, entry.server, entry.released) for entry in ledger.entries]
        assert found == [(number, COHORT, mechanism.server_event, mechanism.round_event) for number in (1, 2)]


def test_rounds_of_one_number_are_charged_apart(training: TrainingRun) -> None:
    """Cut off, charged, made again and cut off again: the ledger takes one name for one release, paid for once."""
    with training.open_ledger() as ledger:
        for _ in range(2):
            record_start(training, StartedRound(1, COHORT, ledger.head))
            assert settle_interrupted(training, ledger) is not None
        assert len({entry.release for entry in ledger.entries}) == 2


def test_a_round_that_was_charged_is_not_charged_by_its_note(training: TrainingRun) -> None:
    mechanism = training.mechanism
    with training.open_ledger() as ledger:
        record_start(training, StartedRound(1, COHORT, ledger.head))
        ledger.spend(Entry(1, "made", COHORT, mechanism.server_event, mechanism.round_event))
        assert settle_interrupted(training, ledger) is None
        assert len(ledger.entries) == 1


def test_a_round_in_which_nobody_took_part_costs_nothing(training: TrainingRun) -> None:
    with training.open_ledger() as ledger:
        forget_start(training)
        record_start(training, StartedRound(1, COHORT, ledger.head))
        forget_start(training)
        assert settle_interrupted(training, ledger) is None
        assert not ledger.entries


def test_a_simulation_makes_its_rounds_again_and_notes_none(training: TrainingRun) -> None:
    simulated = replace(training, mechanism=mechanism_of(training.plan.named(None)))
    with simulated.open_ledger() as ledger:
        record_start(simulated, StartedRound(1, COHORT, ledger.head))
        assert not (simulated.folder / STARTED_ROUND_FILE).exists()


def test_a_simulation_charges_nothing_by_a_note(training: TrainingRun) -> None:
    simulated = replace(training, mechanism=mechanism_of(training.plan.named(None)))
    with simulated.open_ledger() as ledger:
        record_start(training, StartedRound(1, COHORT, ledger.head))
        assert settle_interrupted(simulated, ledger) is None
        assert not ledger.entries


def test_a_note_that_cannot_be_written_leaves_the_last_one_whole(training: TrainingRun) -> None:
    with training.open_ledger() as ledger:
        record_start(training, StartedRound(1, COHORT, ledger.head))
        before = (training.folder / STARTED_ROUND_FILE).read_bytes()
        (training.folder / f"{STARTED_ROUND_FILE}.draft").mkdir()
        with pytest.raises(StorageError, match=r"begun\.json"):
            record_start(training, StartedRound(2, COHORT, ledger.head))
        assert (training.folder / STARTED_ROUND_FILE).read_bytes() == before


def test_a_note_that_cannot_be_read_or_dropped_is_named(training: TrainingRun) -> None:
    with training.open_ledger() as ledger:
        (training.folder / STARTED_ROUND_FILE).mkdir()
        with pytest.raises(StateError, match=r"begun\.json is damaged"):
            settle_interrupted(training, ledger)
    with pytest.raises(StorageError, match=r"begun\.json"):
        forget_start(training)


def test_a_round_beyond_the_budget_is_told_and_not_charged(training: TrainingRun) -> None:
    plan = training.plan
    poor = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"epsilon": 1e-6})})
    with replace(training, mechanism=mechanism_of(poor)).open_ledger() as ledger:
        record_start(training, StartedRound(1, COHORT, ledger.head))
        with pytest.raises(BudgetError):
            settle_interrupted(training, ledger)
        assert not ledger.entries


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b'{"round": 1}',
        b'{"round": "one", "clients": ["a", "b"], "head": "HEAD"}',
        b'{"round": 1, "clients": ["a", "a"], "head": "HEAD"}',
        b'{"round": 1, "clients": ["a", "b c"], "head": "HEAD"}',
        b'{"round": 1, "clients": ["a", ""], "head": "HEAD"}',
    ],
)
def test_a_damaged_note_is_refused_by_name(training: TrainingRun, content: bytes) -> None:
    with training.open_ledger() as ledger:
        (training.folder / STARTED_ROUND_FILE).write_bytes(content.replace(b"HEAD", ledger.head.encode()))
        with pytest.raises(StateError, match=r"begun.json is damaged"):
            settle_interrupted(training, ledger)


def test_a_ledger_that_lost_what_a_note_knows_of_is_refused(training: TrainingRun) -> None:
    with training.open_ledger() as ledger:
        record_start(training, StartedRound(1, COHORT, 64 * "0"))
        with pytest.raises(StateError, match="has lost entries"):
            settle_interrupted(training, ledger)
