"""What a device did in rounds of secure aggregation, on disk: no step of a round is ever done twice.

A device's secrets live in its node's memory, which a SuperNode writes back after the reply has left; were that lost,
a server could have the same step done again under the same keys, and two answers would lay bare what one does not.
The journal holds digests of steps and no secret.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from ..privacy.files import storage, sync_folder, write_all

STEP_BYTES = 32


class Repeated(Exception):
    """The step was done before."""


class Journal(Protocol):
    """Remembers the steps that were done."""

    def once(self, step: bytes) -> None:
        """Note a step, by its digest of 32 bytes, before it is done.

        Raises:
            Repeated: it was noted before.
        """
        ...


class MemoryJournal:
    """A journal that lives as long as the process: for devices that are simulated in it."""

    def __init__(self) -> None:
        self._steps: set[bytes] = set()

    def once(self, step: bytes) -> None:
        """Note a step."""
        if step in self._steps:
            raise Repeated
        self._steps.add(step)


class DiskJournal:
    """The journal in a folder: when `once` returns, the step is on disk. Several processes can share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "steps.bract"

    def once(self, step: bytes) -> None:
        """Note a step, under a lock.

        Raises:
            Repeated: it was noted before.
            StorageError: it cannot be written.
        """
        with storage(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append(descriptor, step)
            finally:
                os.close(descriptor)
            sync_folder(self._path.parent)


def _append(descriptor: int, step: bytes) -> None:
    size = os.fstat(descriptor).st_size
    whole = size - size % STEP_BYTES  # a crash tore the last step: it was not done, so nothing rests on it
    known = os.pread(descriptor, whole, 0)
    if step in {known[at : at + STEP_BYTES] for at in range(0, whole, STEP_BYTES)}:
        raise Repeated
    os.ftruncate(descriptor, whole)
    os.lseek(descriptor, whole, os.SEEK_SET)
    write_all(descriptor, step)
    os.fsync(descriptor)
