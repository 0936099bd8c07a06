"""Handlers for Ctrl-C, SIGTERM and SIGHUP: they print one line that says how to resume, and end the process.

A run's files are complete at any moment, so nothing needs cleanup. The handler ends the process directly: an
exception raised at an arbitrary point, such as inside an import, can be swallowed or end as a traceback.
A sweep's workers end when their standard input closes.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"
"""Clears the line of a progress bar on a terminal, and shows the cursor again."""

_advice: Callable[[], str] = lambda: "nothing was written"  # noqa: E731


def listen() -> None:
    """Install the handlers, except for signals that the process already ignores (under nohup, for example)."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def advise_to_resume(verb: str, folder: Path, kept: str) -> None:
    """Set the handlers' line to the command that resumes `folder`, once the folder holds the file `kept`."""
    command = f"bract {verb} --resume {shlex.quote(str(folder))}"

    def advice() -> str:
        begun = (folder / kept).exists()
        return f"finished work is on disk; to resume, type: {command}" if begun else "nothing was written"

    _set(advice)


def advise_to_delete(folder: Path) -> None:
    """Set the handlers' line to say that `folder` is incomplete, once it exists."""
    _set(lambda: f"{folder} is incomplete, delete it" if folder.exists() else "nothing was written")


def _set(advice: Callable[[], str]) -> None:
    global _advice
    _advice = advice


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    line = f"interrupted by {signal.Signals(number).name}: {_advice()}\n"
    os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + line.encode(errors="backslashreplace"))
    os._exit(128 + number)
