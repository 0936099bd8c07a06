"""Errors in two lines: what is wrong, and what to do about it."""

from __future__ import annotations

import logging
import traceback
from pathlib import PurePath


class BractError(Exception):
    """An error with `what` is wrong and a `hint` on what to do. Both are public text without anything of a record.

    The command line prints both and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str) -> None:
        self.what, self.hint = printable(what), printable(hint)
        super().__init__(self.what, self.hint)

    def __str__(self) -> str:
        return f"error: {self.what}\nhint: {self.hint}"


def printable(text: object) -> str:
    """Return text on one line, safe for a terminal or a log even if the other side wrote it.

    Control characters, escapes and text-direction marks become question marks. White space becomes a space.

    >>> printable("a\\x1b[2J\\nb\\u202ec")
    'a?[2J b?c'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(text))


class Printable(logging.Filter):
    """A filter that makes log records printable: text of the other side cannot end a log line or control a terminal.

    A `BractError` keeps its two lines. Each line of a traceback starts with a bar, so that none looks like an entry.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Make the record's arguments and its exception printable, and return True."""
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(part) for part in record.args)
        if record.exc_info and record.exc_info[1]:
            lines = "".join(traceback.format_exception(record.exc_info[1])).splitlines()
            record.exc_text, record.exc_info = "\n".join(f"| {printable(line)}" for line in lines), None
        return True


def _shown(part: object) -> object:
    """Return text, paths and exceptions as printable text, anything else unchanged."""
    foreign = isinstance(part, str | BaseException | PurePath) and not isinstance(part, BractError)
    return printable(part) if foreign else part


class PlanError(BractError):
    """The plan, or another input of the user, is not valid."""

    exit_code = 2


class DataError(BractError):
    """The data are missing, unreadable, or do not fit the plan."""

    exit_code = 2


class BudgetError(BractError):
    """The next release would cost more than the budget has left."""

    exit_code = 3


class StateError(BractError):
    """A file on disk is damaged, or belongs to another run."""

    exit_code = 4


class StorageError(BractError):
    """The disk is full or cannot be written; earlier content is intact."""

    exit_code = 5


class DivergedError(BractError):
    """The model's parameters are no longer finite, so training cannot continue."""

    exit_code = 7


class RoundError(BractError):
    """Too few devices answered for the round to be released."""

    exit_code = 6
