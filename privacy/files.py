"""Writing so that a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .errors import StorageError

HINT = "free some space, then go on in the same folder: what was written before is intact"


@contextmanager
def storage(path: Path, hint: str = HINT) -> Generator[None]:
    """Turn a failure of the operating system to write `path` into a `StorageError`."""
    try:
        yield
    except OSError as fault:
        raise StorageError(
            f"cannot write {path}: {(fault.strerror or 'failed').lower()}",
            hint,
        ) from fault


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however many calls the operating system takes for it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: Path, data: bytes, private: bool = False) -> None:
    """Make `data` the content of `path`: after a crash there is the old content or the new, never a mixture.

    Others than the file's owner can read it unless `private`.

    Raises:
        StorageError: it cannot be written; the old content is intact.
    """
    draft = path.with_name(path.name + ".draft")
    with storage(path):
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
            try:
                if private:
                    os.fchmod(descriptor, 0o600)  # a draft that a crash left may have been open to all
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(draft, path)
            sync_folder(path.parent)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def make_folder(folder: Path) -> None:
    """Make a device's folder, so that it is there after a power cut too.

    Raises:
        StorageError: it cannot be made.
    """
    with storage(folder, "let the node write to the folder of its state setting"):
        for path in [*reversed(folder.parents), folder]:
            if not path.is_dir():
                path.mkdir(exist_ok=True)
                sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
