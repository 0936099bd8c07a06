"""What a device did in rounds of secure aggregation, on disk: no step of a round is ever done twice.

A device's secrets live in its node's memory, which a SuperNode writes back after the reply has left; were that lost,
a server could have the same step done again under the same keys, and two answers would lay bare what one does not.
The journal holds digests of steps and no secret.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ..privacy.files import storage, sync_folder, write_all

STEP_BYTES = 32


class Repeated(Exception):
    """The step was done before."""


class Journal(Protocol):
    """Remembers the steps that were done, by digests of 32 bytes."""

    def first(self, steps: Iterable[bytes]) -> None:
        """Note the first of these steps that was not noted yet, before it is done.

        Raises:
            Repeated: all of them were noted before.
        """
        ...


class MemoryJournal:
    """A journal that lives as long as the process: for devices that are simulated in it."""

    def __init__(self) -> None:
        self._steps: set[bytes] = set()

    def first(self, steps: Iterable[bytes]) -> None:
        """Note the first step that is new."""
        self._steps.add(_new(steps, self._steps))


class DiskJournal:
    """The journal in a folder: when `first` returns, the step is on disk. Processes of one device share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "steps.bract"

    def first(self, steps: Iterable[bytes]) -> None:
        """Note the first step that is new, under a lock.

        Raises:
            Repeated: all of them were noted before.
            StorageError: it cannot be written.
        """
        folder = self._path.parent
        with storage(self._path, "free some space, or let the node write to the folder of its state setting"):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            with open(self._path, "a+b", buffering=0, opener=_private) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                _append(stream, steps)
            sync_folder(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _append(stream: io.FileIO, steps: Iterable[bytes]) -> None:
    stream.seek(0)
    content = stream.readall()
    whole = len(content) - len(content) % STEP_BYTES  # a crash tore the last step: it was not done
    step = _new(steps, {content[at : at + STEP_BYTES] for at in range(0, whole, STEP_BYTES)})
    stream.truncate(whole)
    write_all(stream.fileno(), step)
    os.fsync(stream.fileno())


def _new(steps: Iterable[bytes], known: set[bytes]) -> bytes:
    for step in steps:
        if step not in known:
            return step
    raise Repeated
