"""Files that are written atomically: after a crash at any point, the old content or the new is on disk."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError, StorageError

HINT = "free some space, then go on in the same folder: what was written before is intact"
ELSEWHERE = "choose a folder that is there and that you can write to; what was written before is intact"
NOT_YOURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
"""Error numbers that more free space would not solve."""


@contextmanager
def storage(path: Path, hint: str = HINT) -> Generator[None]:
    """Turn an `OSError` into a `StorageError` about `path`; the default hint depends on the kind of error."""
    try:
        yield
    except OSError as fault:
        raise StorageError(
            f"cannot write {path}: {(fault.strerror or 'failed').lower()}",
            ELSEWHERE if hint == HINT and fault.errno in NOT_YOURS else hint,
        ) from fault


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in as many system calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_new(path: Path, data: bytes, private: bool = False) -> None:
    """Write a new file; when this returns, it is on disk. If `private`, only its owner can read it.

    Raises:
        FileExistsError: the file exists already.
        StorageError: the file cannot be written; nothing is left of it.
    """
    if path.exists() or path.is_symlink():
        raise FileExistsError(path)
    with storage(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        sync_folder(path.parent)


def replace_file(path: Path, data: bytes, private: bool = False) -> None:
    """Replace the content of `path` by `data`: after a crash, the file holds the old content or the new.

    If `private`, only the file's owner can read it.

    Raises:
        StorageError: the file cannot be written; the old content is intact.
    """
    draft = path.with_name(path.name + ".draft")
    with storage(path):
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
            try:
                if private:
                    os.fchmod(descriptor, 0o600)  # the draft may be left from a crash, and readable by all
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(draft, path)
            sync_folder(path.parent)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def exposed(path: Path) -> Path | None:
    """Return `path` or the first of its parent folders that users other than this one and root can change, else None.

    A user who can change a folder can replace every file in it. In a folder with the sticky bit, such as /tmp, users
    can replace only their own files.

    Raises:
        OSError: the path does not exist, or cannot be inspected.
    """
    real = path.resolve(strict=True)
    for place in dict.fromkeys((real, *real.parents, *path.absolute().parents)):
        found = place.stat()
        sticky = place != real and found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not sticky):
            return place
    return None


def read_owned(path: Path, most: int) -> bytes:
    """Return the content of a file that only this user and root can change.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has more than `most` bytes.
        DataError: other users can change it.
    """
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError("too large")
    if place := exposed(path):
        raise DataError(
            f"users other than its owner can change {path}: see {place}",
            f"make it yours or root's, and type: chmod go-w {place}",
        )
    return content


def create_once(path: Path, make: Callable[[], bytes], private: bool = False) -> bytes:
    """Return the content of `path`; a missing file is created first, by exactly one of all concurrent processes.

    Raises:
        StorageError: the file cannot be written or read.
    """
    with storage(path):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not path.exists():
                replace_file(path, make(), private)
            return path.read_bytes()
        finally:
            os.close(folder)


def make_folder(folder: Path) -> None:
    """Create a device's folder and its parents, and fsync them.

    Raises:
        StorageError: the folder cannot be created.
    """
    with storage(folder, "let the node write to the folder of its state setting"):
        for path in [*reversed(folder.parents), folder]:
            if not path.is_dir():
                path.mkdir(mode=0o755, exist_ok=True)
                sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Fsync `folder`, so that new names in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
