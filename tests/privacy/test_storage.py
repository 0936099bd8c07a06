"""Files that are replaced as a whole, on full disks and in killed processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import BractError, StorageError
from bract.privacy.storage import create_once, make_folder, replace_file, storage, write_all, write_new

OLD, NEW = b"old" * 100, b"new" * 5000


def fail(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after(calls: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, which fails from its call number `calls` on."""
    left = [calls]

    def call(*given: Any) -> Any:
        left[0] -= 1
        return real(*given) if left[0] >= 0 else fail()

    return call


def short_writes(descriptor: int, data: memoryview, write: Callable[..., int] = os.write) -> int:
    return write(descriptor, data[:1000])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.write_bytes(OLD)
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.mark.parametrize("data", [b"", b"x", NEW])
def test_replaces_the_content_and_leaves_no_draft(path: Path, data: bytes) -> None:
    replace_file(path, data)
    assert path.read_bytes() == data
    assert names(path) == ["state"]


def test_makes_a_file_that_was_not_there(tmp_path: Path) -> None:
    replace_file(tmp_path / "new", NEW)
    assert (tmp_path / "new").read_bytes() == NEW


def test_a_draft_that_a_crash_left_is_overwritten_whole(path: Path) -> None:
    path.with_name("state.draft").write_bytes(b"torn" * 100_000)
    replace_file(path, NEW)
    assert path.read_bytes() == NEW
    assert names(path) == ["state"]


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_full_disk_at_any_call_leaves_the_old_content(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No draft stays."""
    with monkeypatch.context() as patch:
        patch.setattr(f"bract.privacy.storage.os.{name}", fail)
        with pytest.raises(StorageError) as caught:
            replace_file(path, NEW)
    assert path.read_bytes() == OLD
    assert names(path) == ["state"]
    assert "no space left" in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("calls", range(15))
def test_a_disk_that_fills_up_leaves_the_old_content(path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """It fills up between two writes; no draft stays."""
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.write", after(calls, short_writes))
        with pytest.raises(StorageError):
            replace_file(path, NEW)
    assert path.read_bytes() == OLD
    assert names(path) == ["state"]


def test_a_failed_sync_of_the_folder_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves a whole file."""
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.fsync", after(1, os.fsync))
        with pytest.raises(StorageError):
            replace_file(path, NEW)
    assert path.read_bytes() in (OLD, NEW)
    assert names(path) == ["state"]


def test_content_is_synced_before_it_is_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folder after."""
    calls: list[str] = []

    def record(name: str, real: Callable[..., Any]) -> None:
        monkeypatch.setattr(f"bract.privacy.storage.os.{name}", lambda *given: calls.append(name) or real(*given))

    for name in ("write", "fsync", "replace"):
        record(name, getattr(os, name))
    replace_file(path, b"new")
    monkeypatch.undo()
    assert calls == ["write", "fsync", "replace", "fsync"]


def test_a_write_that_takes_many_calls_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.write", short_writes)
        replace_file(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


def test_writes_nothing_for_no_data() -> None:
    write_all(-1, b"")  # an invalid descriptor, which a call would refuse


def test_no_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        replace_file(tmp_path / "none" / "state", NEW)


def test_only_faults_of_the_system_become_storage_errors(tmp_path: Path) -> None:
    """Of the operating system."""
    with pytest.raises(KeyError), storage(tmp_path):
        raise KeyError("mine")
    with pytest.raises(StorageError) as caught, storage(tmp_path):
        fail()
    assert isinstance(caught.value, BractError)
    assert str(tmp_path) in caught.value.what
    with pytest.raises(StorageError, match="failed"), storage(tmp_path):
        raise OSError


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from bract.privacy.storage import replace_file

path, size = Path(sys.argv[1]), 200_000
random.seed(int(sys.argv[2]))
least = 0
replace_file(path, bytes(size))
for _ in range(30):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for number in range(least + 1, 1 << 30):
            replace_file(path, bytes([number % 251]) * size)
            os.write(write, number.to_bytes(4, "big"))
    os.close(write)
    time.sleep(random.uniform(0.001, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as stream:
        told = stream.read()
    least = int.from_bytes(told[-4:], "big") if told else least
    content = path.read_bytes()
    assert len(content) == size, len(content)
    assert len(set(content)) == 1, "a mixture of old and new"
    assert content[0] in (least % 251, (least + 1) % 251), (content[0], least)
    least += content[0] == (least + 1) % 251
print("replaced", least)
"""


def test_a_killed_process_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    """It may be killed at any moment."""
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "state"), "1"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.removeprefix("replaced ")) > 10


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "that you can write to"), (errno.ENOENT, "that is there")],
)
def test_a_failed_write_has_a_hint_that_fits(tmp_path: Path, number: int, hint: str) -> None:
    with pytest.raises(StorageError) as caught, storage(tmp_path):
        raise OSError(number, os.strerror(number))
    assert hint in caught.value.hint


def test_a_hint_that_the_caller_gives_stays(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ask the node's owner"), storage(tmp_path, "ask the node's owner"):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_new_file_that_cannot_be_written_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A key or a card that is half there would be taken for a whole one."""
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match="no space left"):
        write_new(tmp_path / "new", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("private", [False, True])
def test_a_new_file_replaces_nothing_and_may_be_private(path: Path, private: bool) -> None:
    with pytest.raises(FileExistsError):
        write_new(path, NEW)
    path.with_name("link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        write_new(path.with_name("link"), NEW)
    assert path.read_bytes() == OLD
    write_new(path.with_name("new"), NEW, private)
    assert path.with_name("new").stat().st_mode & 0o077 == (0 if private else 0o044)


def test_what_is_created_once_keeps_its_first_content(tmp_path: Path) -> None:
    contents = iter([OLD, NEW])
    for _ in range(2):
        assert create_once(tmp_path / "name", lambda: next(contents)) == OLD
    assert next(contents) == NEW


def test_every_folder_that_is_made_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("bract.privacy.storage.sync_folder", synced.append)
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/c.*\n.*state setting"):
        make_folder(tmp_path / "file" / "c")
