"""Ctrl-C, SIGTERM and SIGHUP: one line that says how to go on, and the end of the process.

What a run has on its disk is whole at any moment, so nothing has to be unwound. The process ends where it stands: an
exception that is raised wherever the program happens to be, as in an import, can get lost or end as a traceback.
A sweep's workers end with their input, which closes.
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
"""To a terminal on which a bar was drawn: an empty line, and the cursor back."""

_advice: Callable[[], str] = lambda: "nothing was written"  # noqa: E731


def listen() -> None:
    """Have the signals end this process, but for those that it was started to ignore, as by nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def advise_to_resume(verb: str, folder: Path, kept: str) -> None:
    """Have a signal say which command goes on with the folder, once it holds the file that is `kept` there."""
    command = f"bract {verb} --resume {shlex.quote(str(folder))}"

    def advice() -> str:
        begun = (folder / kept).exists()
        return f"what was finished is on disk, go on with: {command}" if begun else "nothing was written"

    _set(advice)


def advise_to_delete(folder: Path) -> None:
    """Have a signal say that the folder is not whole, once it is there."""
    _set(lambda: f"{folder} is not whole, delete it" if folder.exists() else "nothing was written")


def _set(advice: Callable[[], str]) -> None:
    global _advice
    _advice = advice


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    line = f"interrupted by {signal.Signals(number).name}: {_advice()}\n"
    os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + line.encode(errors="backslashreplace"))
    os._exit(128 + number)
