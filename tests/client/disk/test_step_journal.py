"""The journal of a device: no step is noted twice; a run keeps its plan and its refusal, whatever comes between."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.client.disk import step_journal as journal_file
from bract.client.disk.step_journal import HEADER, JOURNAL_FILE, DiskJournal, Journal, MemoryJournal, RepeatedStep
from bract.client.terms import Refused, Terms
from bract.privacy import PlanError, StateError, StorageError
from bract.privacy.ledger.hash_chain import read_lines

Open = Callable[[Path], Journal]
BOTH = pytest.mark.parametrize("opened", [DiskJournal, lambda folder: MemoryJournal()], ids=["disk", "memory"])
STEP_BYTES = 32
PLAN, OTHER = "a" * 64, "b" * 64
WHOLE: list[dict[str, str | int]] = [
    {"step": "a"},
    {"answered": "a", "request": "b"},
    {"session": "a", "card": "b"},
    {"run": "1", "plan": "a", "day": 1},
    {"refused": "1", "day": 1},
]
"""A line of each kind that a journal has."""

steps = st.integers(0, 5).map(lambda n: bytes([n]) * STEP_BYTES)


def step(number: int) -> bytes:
    return number.to_bytes(STEP_BYTES, "big")


def lines(folder: Path) -> list[dict[str, object]]:
    """What stands on disk after the header."""
    path = folder / JOURNAL_FILE
    header, *bodies = read_lines(path, path.read_bytes()).bodies
    assert header == HEADER
    return bodies


@BOTH
def test_a_step_is_noted_once_and_refused_ever_after(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.first([step(1)])
    for number in (2, 3):
        with pytest.raises(RepeatedStep):
            journal.first([step(1)])
        journal.first([step(number)])
    assert [journal.has(step(number)) for number in (1, 2, 3, 4)] == [True, True, True, False]


@BOTH
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=12))
def test_of_any_steps_each_is_done_once(
    opened: Open, tmp_path_factory: pytest.TempPathFactory, wanted: list[bytes]
) -> None:
    journal, done = opened(tmp_path_factory.mktemp("journal")), list[bytes]()
    for one in wanted:
        try:
            journal.first([one])
        except RepeatedStep:
            assert one in done
        else:
            done.append(one)
    assert sorted(done) == sorted(set(wanted))


@BOTH
def test_of_several_steps_the_first_that_is_new_is_noted(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for _ in range(3):
        journal.first(step(number) for number in (1, 2, 3))
    with pytest.raises(RepeatedStep):
        journal.first(step(number) for number in (1, 2, 3))
    journal.first([step(3), step(4)])


@BOTH
def test_a_step_answers_one_request_and_that_one_again(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for request in (2, 3, 2, 3):
        with nullcontext() if request == 2 else pytest.raises(RepeatedStep):
            journal.answer(step(1), step(request))
    journal.answer(step(4), step(3))


def test_a_step_that_was_answered_stays_so_across_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        DiskJournal(tmp_path).answer(step(1), step(2))
    with pytest.raises(RepeatedStep):
        DiskJournal(tmp_path).answer(step(1), step(3))
    assert lines(tmp_path) == [{"answered": step(1).hex(), "request": step(2).hex()}]


def test_what_was_noted_is_known_to_the_next_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bract.client.disk.step_journal import DiskJournal;"
        f"DiskJournal(Path(sys.argv[1])).first([{step(7)!r}])"
    )
    first = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert first.returncode == 0
    with pytest.raises(RepeatedStep):
        DiskJournal(tmp_path).first([step(7)])


class TestARun:
    @BOTH
    def test_keeps_the_one_plan_that_it_began_with(self, opened: Open, tmp_path: Path) -> None:
        journal = opened(tmp_path)
        for _ in range(2):
            journal.enter(1, PLAN, Terms())
        with pytest.raises(PlanError, match="changed the plan within a run"):
            journal.enter(1, OTHER, Terms())
        journal.enter(2, OTHER, Terms())

    @BOTH
    def test_was_entered_with_its_own_plan_alone(self, opened: Open, tmp_path: Path) -> None:
        journal = opened(tmp_path)
        journal.enter(1, PLAN, Terms())
        journal.enter(2, OTHER, Terms())
        found = [journal.entered(run, plan) for run in (1, 2, 3) for plan in (PLAN, OTHER)]
        assert found == [True, False, False, True, False, False]

    def test_keeps_its_plan_across_a_restart(self, tmp_path: Path) -> None:
        DiskJournal(tmp_path).enter(1, PLAN, Terms())
        with pytest.raises(PlanError):
            DiskJournal(tmp_path).enter(1, OTHER, Terms())
        DiskJournal(tmp_path).enter(1, PLAN, Terms())

    @pytest.mark.parametrize("entered", [False, True])
    def test_that_was_refused_stays_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entered: bool) -> None:
        """It does across a restart and a midnight."""
        if entered:
            DiskJournal(tmp_path).enter(1, PLAN, Terms())
        DiskJournal(tmp_path).refuse(1)
        tomorrow = journal_file.today() + 1
        for day in (tomorrow - 1, tomorrow):
            monkeypatch.setattr(journal_file, "today", lambda day=day: day)
            with pytest.raises(Refused, match="final"):
                DiskJournal(tmp_path).admit(1, Terms())
            with pytest.raises(Refused, match="final"):
                DiskJournal(tmp_path).enter(1, PLAN, Terms())
        DiskJournal(tmp_path).admit(2, Terms())

    @BOTH
    def test_is_let_in_until_too_many_were_refused_that_day(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, terms, day = opened(tmp_path), Terms(max_refused_runs_a_day=2), journal_file.today()
        journal.enter(9, PLAN, terms)
        for run in (1, 1, 2):
            journal.admit(3, terms)
            journal.refuse(run)
        for refused in (lambda: journal.admit(3, terms), lambda: journal.enter(3, PLAN, terms)):
            with pytest.raises(Refused, match="2 runs were refused today"):
                refused()
        journal.admit(9, terms)  # a run that is under way goes on
        monkeypatch.setattr(journal_file, "today", lambda: day + 1)
        journal.admit(3, terms)

    @BOTH
    def test_of_a_new_plan_is_let_in_until_too_many_were_that_day(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, terms, day = opened(tmp_path), Terms(max_plans_a_day=2), journal_file.today()
        for run, plan in enumerate((PLAN, PLAN, OTHER, PLAN)):
            journal.enter(run, plan, terms)
        with pytest.raises(Refused, match="2 plans were offered today"):
            journal.enter(9, "c" * 64, terms)
        journal.enter(10, OTHER, terms)
        monkeypatch.setattr(journal_file, "today", lambda: day + 1)
        journal.enter(9, "c" * 64, terms)

    def test_that_is_refused_again_counts_for_the_first_day_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two messages of it that come at once are both let in, and each notes the refusal."""
        day = journal_file.today()
        for later in (0, 1):
            monkeypatch.setattr(journal_file, "today", lambda later=later: day + later)
            DiskJournal(tmp_path).refuse(1)
        assert lines(tmp_path) == [{"refused": "1", "day": day}]

    @BOTH
    def test_of_today_counts_though_the_clock_was_set_back(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal, day = opened(tmp_path), journal_file.today()
        journal.enter(1, PLAN, Terms())
        journal.refuse(2)
        monkeypatch.setattr(journal_file, "today", lambda: day - 1)
        with pytest.raises(Refused, match="1 runs were refused today"):
            journal.admit(3, Terms(max_refused_runs_a_day=1))
        with pytest.raises(Refused, match="1 plans were offered today"):
            journal.enter(3, OTHER, Terms(max_plans_a_day=1))

    def test_shows_no_card_once_too_many_were_shown_that_day(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever asks for keys without end pays nothing, and each card is a line on the device's disk."""
        monkeypatch.setattr(journal_file, "MOST_CARDS_A_DAY", 3)
        journal, day = DiskJournal(tmp_path), journal_file.today()
        for card in (1, 2, 3):
            journal.show(step(0), step(card))
        size = (tmp_path / journal_file.JOURNAL_FILE).stat().st_size
        for asked in (DiskJournal(tmp_path), journal):
            with pytest.raises(Refused, match="3 cards were shown today"):
                asked.show(step(9), step(4))
        assert (tmp_path / journal_file.JOURNAL_FILE).stat().st_size == size
        assert journal.shows(step(0), step(3))
        monkeypatch.setattr(journal_file, "today", lambda: day + 1)
        journal.show(step(9), step(4))

    def test_reads_cards_that_were_noted_without_a_day(self, tmp_path: Path) -> None:
        """Journals of earlier builds have no day in such a line."""
        with DiskJournal(tmp_path).open() as pages:
            pages.note(session=step(0).hex(), card=step(1).hex())
        assert DiskJournal(tmp_path).shows(step(0), step(1))

    def test_fills_no_disk_though_a_server_starts_one_after_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_file, "MOST_RUNS_A_DAY", 5)
        journal = DiskJournal(tmp_path)
        for run in range(5):
            journal.enter(run, PLAN, Terms())
        for run in range(5, 12):
            with pytest.raises(Refused):
                journal.enter(run, PLAN, Terms())
        assert len(lines(tmp_path)) == 5


@BOTH
def test_the_card_that_a_device_shows_is_the_last_one(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert not journal.shows(step(1), step(2))
    for card in (2, 3):
        journal.show(step(1), step(card))
    assert [journal.shows(step(1), step(card)) for card in (2, 3)] == [False, True]
    assert not journal.shows(step(4), step(3))


class TestAJournalThatIsNotWhole:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder with a journal of four lines."""
        journal = DiskJournal(tmp_path)
        journal.enter(1, PLAN, Terms())
        for number in (1, 2):
            journal.first([step(number)])
        return tmp_path

    def test_is_as_if_the_line_that_a_crash_tore_were_not_noted(self, folder: Path) -> None:
        path = folder / JOURNAL_FILE
        before = path.read_bytes()
        DiskJournal(folder).first([step(3)])
        line = path.read_bytes()[len(before) :]
        for torn in (1, 40, len(line) - 1):
            path.write_bytes(before + line[:torn])
            for number in (1, 2):
                with pytest.raises(RepeatedStep):
                    DiskJournal(folder).first([step(number)])
            DiskJournal(folder).first([step(3)])
            with pytest.raises(RepeatedStep):
                DiskJournal(folder).first([step(3)])

    def test_is_refused_by_its_line_whatever_byte_changed(self, folder: Path) -> None:
        """The line is named, whichever byte was changed or lost."""
        path = folder / JOURNAL_FILE
        content = path.read_bytes()
        last = content.rindex(b"\n", 0, -1) + 1
        for at in range(0, last, 7):
            for spoilt in (content[:at] + content[at + 1 :], content[:at] + b"~" + content[at + 1 :]):
                path.write_bytes(spoilt)
                with pytest.raises(StateError, match=r"is damaged at line [1-4]") as caught:
                    DiskJournal(folder).first([step(9)])
                assert "give the device a new identity" in caught.value.hint
                assert path.read_bytes() == spoilt

    def test_is_refused_where_a_line_is_missing_or_foreign(self, folder: Path) -> None:
        """A foreign line is none of a journal's."""
        path = folder / JOURNAL_FILE
        rows = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(rows[:1] + rows[2:]))
        with pytest.raises(StateError, match="damaged at line 2"):
            DiskJournal(folder).has(step(1))
        path.unlink()
        with DiskJournal(folder).open() as pages:
            pages._append({"something": "else"})
        with pytest.raises(StateError, match="damaged at line 2"):
            DiskJournal(folder).has(step(1))

    @pytest.mark.parametrize("line", [*WHOLE, {"other": "a"}])
    def test_is_refused_where_a_line_says_more_or_otherwise(self, tmp_path: Path, line: dict[str, str | int]) -> None:
        """A line of a later version is not read for what it has in common with one of this version."""
        wrong = [{**line, name: [value]} for name, value in line.items()] + [{**line, "more": 1}]
        for number, body in enumerate(wrong):
            folder = tmp_path / str(number)
            with DiskJournal(folder).open() as pages:
                pages._append(body)
            with pytest.raises(StateError, match="damaged at line 2"):
                DiskJournal(folder).has(step(1))

    @pytest.mark.parametrize("line", WHOLE)
    def test_is_whole_with_lines_of_these_names(self, tmp_path: Path, line: dict[str, str | int]) -> None:
        """Or the test above could not fail."""
        with DiskJournal(tmp_path).open() as pages:
            pages._append(line)
        assert not DiskJournal(tmp_path).has(step(1))

    @pytest.mark.parametrize("content", [b"", step(1), step(1) + step(2)])
    def test_of_version_0_4_is_refused_by_name(self, tmp_path: Path, content: bytes) -> None:
        """It is never taken for empty."""
        (tmp_path / "steps.bract").write_bytes(content)
        for use in (
            lambda: DiskJournal(tmp_path).first([step(3)]),
            lambda: DiskJournal(tmp_path).admit(1, Terms()),
        ):
            with pytest.raises(StateError, match=r"steps\.bract is the journal of bract 0\.4") as caught:
                use()
            assert "move the file away" in caught.value.hint
        assert (tmp_path / "steps.bract").read_bytes() == content
        assert list(tmp_path.iterdir()) == [tmp_path / "steps.bract"]

    def test_of_another_kind_or_version_is_refused(self, tmp_path: Path) -> None:
        journal_file.Chain(tmp_path / JOURNAL_FILE, {"kind": "journal", "version": 2}).close()
        with pytest.raises(StateError, match="not a journal of this version"):
            DiskJournal(tmp_path).first([step(1)])


def test_a_process_killed_anywhere_leaves_a_sound_journal(tmp_path: Path) -> None:
    """Three processes note steps without a pause, and each is killed with SIGKILL after a few of them."""
    code = (
        "import sys, itertools; from pathlib import Path; from bract.client.disk.step_journal import DiskJournal\n"
        "journal = DiskJournal(Path(sys.argv[1]))\n"
        "for number in itertools.count(int(sys.argv[2])):\n"
        "    journal.first([number.to_bytes(32, 'big')])\n"
        "    print(number, flush=True)\n"
    )
    done: list[int] = []
    for turn, few in enumerate((1, 7, 20)):
        command = [sys.executable, "-c", code, str(tmp_path), str(1000 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            done += [int(process.stdout.readline()) for _ in range(few)]
            process.send_signal(signal.SIGKILL)
            done += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    for number in done:
        with pytest.raises(RepeatedStep):
            DiskJournal(tmp_path).first([step(number)])
    DiskJournal(tmp_path).first([step(9999)])


def test_a_line_is_on_disk_before_what_it_notes_may_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DiskJournal(tmp_path).first([step(1)])
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().read_bytes())

    monkeypatch.setattr(os, "fsync", watched)
    DiskJournal(tmp_path).first([step(2)])
    assert step(2).hex().encode() in synced[-1]


def test_a_step_that_cannot_be_written_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError):
        DiskJournal(tmp_path / "file").first([step(1)])


def test_the_folder_is_made_when_needed_and_the_file_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    DiskJournal(folder).first([step(1)])
    [path] = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert lines(folder) == [{"step": step(1).hex()}]
