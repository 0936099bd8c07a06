"""An append-only file of JSON lines: each line holds its own SHA-256 and the one of the line before it.

A line is on disk when `append` returns. A crash can truncate only the last line. This line was never acknowledged, so
it is dropped. Every other change is detected, and the error names the line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import StateError
from ..storage import HINT, storage, sync_folder, write_all

NOTHING = "0" * 64
"""The previous hash in the first line."""

POLL_SECONDS = 0.05
WHICH = "give the path of a ledger"
REMEDY = "restore the ledger from a copy; without it nothing more may be released from these data"


@dataclass(frozen=True)
class Lines:
    """The complete lines of a chain: their bodies, their hashes (after `NOTHING`), and their length in bytes."""

    bodies: tuple[dict[str, Any], ...]
    heads: tuple[str, ...]
    length: int


def read_lines(path: Path, content: bytes, remedy: str = REMEDY) -> Lines:
    """Return the complete lines in a chain's content; a truncated last line is left out.

    Raises:
        StateError: a line is damaged. The error names the line, and its hint is `remedy`.
    """
    complete, newline, tail = content.rpartition(b"\n")
    bodies: list[dict[str, Any]] = []
    heads = [NOTHING]
    for number, line in enumerate(complete.split(b"\n") if newline else [], 1):
        body, head = _open(path, number, line, heads[-1], remedy)
        bodies.append(body)
        heads.append(head)
    if _is_whole(tail):
        raise damaged(path, len(heads), remedy)
    return Lines(tuple(bodies), tuple(heads), len(complete) + len(newline))


def _open(path: Path, number: int, line: bytes, previous: str, remedy: str) -> tuple[dict[str, Any], str]:
    try:
        value = cast(dict[str, Any], json.loads(line))
        body = {key: part for key, part in value.items() if key not in ("previous", "hash")}
        digest = _digest(previous, body)
        if line != _line(body, previous, digest):  # byte for byte: 1E-05 equals 1e-05, but bract never writes it
            raise ValueError("hash")
    except (ValueError, AttributeError, TypeError, RecursionError) as fault:
        raise damaged(path, number, remedy) from fault
    return body, digest


def _is_whole(tail: bytes) -> bool:
    """Whether a tail holds a complete line without its newline, and more bytes: no truncated write leaves that."""
    try:
        _, end = json.JSONDecoder().raw_decode(tail.decode("latin-1"))
    except (ValueError, RecursionError):
        return False
    return tail.startswith(b"{") and end < len(tail)


def damaged(path: Path, number: int, remedy: str = REMEDY) -> StateError:
    """Return the error that names a damaged line."""
    return StateError(f"{path} is damaged at line {number}", remedy)


def empty(path: Path) -> StateError:
    """Return the error for a file that is not a ledger."""
    return StateError(f"{path} holds no ledger", WHICH)


def _digest(previous: str, body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _line(body: Mapping[str, Any], previous: str, digest: str) -> bytes:
    return json.dumps({**body, "previous": previous, "hash": digest}, separators=(",", ":")).encode()


class Chain:
    """A hash chain in a file, under an exclusive lock until it is closed. With `header`, a missing file is created.

    If another process has the lock, this one waits up to `wait` seconds. If `private`, only the file's owner can read
    it. `bodies` are the lines that the file held when it was opened, the header first.

    Raises:
        StateError: the file stays locked, is damaged (the hint is `remedy`), or is missing without `header`.
        StorageError: it cannot be opened or written; the hint is `hint`.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any] | None,
        wait: float = 0.0,
        private: bool = False,
        hint: str = HINT,
        remedy: str = REMEDY,
    ) -> None:
        self.path, self._hint, self._remedy = path, hint, remedy
        with storage(path, hint):
            create = 0 if header is None else os.O_CREAT
            self._file = os.open(path, os.O_RDWR | create, 0o600 if private else 0o644)
        try:
            self._lock(wait)
            self._read(header)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release its lock; nothing can be appended after this."""
        os.close(self._file)
        self._file = -1  # the system may reuse the descriptor's number for another file

    def append(self, body: Mapping[str, Any]) -> None:
        """Append a line; when this returns, the line is on disk.

        Raises:
            StorageError: the line could not be written; the file is unchanged.
        """
        digest = _digest(self.heads[-1], body)
        line = _line(body, self.heads[-1], digest) + b"\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        with storage(self.path, self._hint):
            try:
                write_all(self._file, line)
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, end)
                raise
        self.heads.append(digest)

    def _lock(self, wait: float) -> None:
        end = time.monotonic() + wait
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise StateError(
                        f"{self.path} is in use by another process", "wait for it to end, or stop it"
                    ) from None
                time.sleep(POLL_SECONDS)

    def _read(self, header: Mapping[str, Any] | None) -> None:
        content = self._content()
        lines = read_lines(self.path, content, self._remedy)
        self.heads, self.bodies = list(lines.heads), lines.bodies
        if not lines.bodies and header is None:
            raise empty(self.path)
        with storage(self.path, self._hint):
            if lines.length < len(content):  # a crash truncated the last line, before it was acknowledged
                os.ftruncate(self._file, lines.length)
            if lines.bodies:
                os.fsync(self._file)  # the process that wrote the last line may have ended before its fsync
        if not lines.bodies and header is not None:
            self.append(header)
            self.bodies = (dict(header),)
            with storage(self.path, self._hint):
                sync_folder(self.path.parent)

    def _content(self) -> bytes:
        os.lseek(self._file, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._file), "rb") as stream:
            return stream.read()
