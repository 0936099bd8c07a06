"""The journal of a device's steps: none is noted twice, whatever process, crash or restart comes between."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.client.journal import STEP_BYTES, DiskJournal, Journal, MemoryJournal, Repeated
from bract.privacy import StorageError

Open = Callable[[Path], Journal]
BOTH = pytest.mark.parametrize("opened", [DiskJournal, lambda folder: MemoryJournal()], ids=["disk", "memory"])
steps = st.integers(0, 5).map(lambda n: bytes([n]) * STEP_BYTES)


def step(number: int) -> bytes:
    return number.to_bytes(STEP_BYTES, "big")


@BOTH
def test_a_step_is_noted_once_and_refused_ever_after(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.first([step(1)])
    for number in (2, 3):
        with pytest.raises(Repeated):
            journal.first([step(1)])
        journal.first([step(number)])


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
        except Repeated:
            assert one in done
        else:
            done.append(one)
    assert sorted(done) == sorted(set(wanted))


def test_a_step_that_straddles_two_others_is_not_one_of_them(tmp_path: Path) -> None:
    journal = DiskJournal(tmp_path)
    one, other = bytes(16) + b"\1" * 16, b"\2" * 16 + bytes(16)
    journal.first([one])
    journal.first([other])
    journal.first([b"\1" * 16 + b"\2" * 16])


def test_what_was_noted_is_known_to_the_next_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bract.client.journal import DiskJournal;"
        f"DiskJournal(Path(sys.argv[1])).first([{step(7)!r}])"
    )
    first = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert first.returncode == 0
    with pytest.raises(Repeated):
        DiskJournal(tmp_path).first([step(7)])
    again = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "Repeated" in again.stderr


@pytest.mark.parametrize("torn", [1, STEP_BYTES - 1])
def test_a_step_that_a_crash_tore_is_as_if_it_were_not_noted_and_the_others_are_kept(
    tmp_path: Path, torn: int
) -> None:
    DiskJournal(tmp_path).first([step(1)])
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + step(2)[:torn])
    journal = DiskJournal(tmp_path)
    for number in (2, 3):
        journal.first([step(number)])
    for number in (1, 2, 3):
        with pytest.raises(Repeated):
            DiskJournal(tmp_path).first([step(number)])


def test_a_step_is_on_disk_before_it_may_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced.append(path.read_bytes() if path.is_file() else b"folder")

    monkeypatch.setattr(os, "fsync", watched)
    DiskJournal(tmp_path).first([step(1)])
    assert synced == [step(1), b"folder"]


def test_a_step_that_cannot_be_written_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError):
        DiskJournal(tmp_path / "file").first([step(1)])


def test_the_folder_is_made_when_it_is_needed_and_others_cannot_read_the_file(tmp_path: Path) -> None:
    DiskJournal(tmp_path / "a" / "b").first([step(1)])
    [path] = (tmp_path / "a" / "b").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == step(1)


@BOTH
def test_of_several_steps_the_first_that_is_new_is_noted(opened: Open, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for _ in range(3):
        journal.first(step(number) for number in (1, 2, 3))
    with pytest.raises(Repeated):
        journal.first(step(number) for number in (1, 2, 3))
    journal.first([step(3), step(4)])
