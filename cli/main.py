"""The `bract` command. Whatever goes wrong is said in two lines, and the exit code tells its kind.

This file imports next to nothing: it hears signals before the first import that takes time.
"""

from __future__ import annotations

import os
import sys

from . import signals

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

PIPE_CLOSED = 141
INSTALL = "type in the checkout of bract: pip install '.[sim]'"
"""What brings a missing package: bract is not on a registry."""


def main() -> None:
    """Run the command and leave with its exit code."""
    signals.listen()
    code = run(sys.argv[1:])
    sys.exit(_flushed(code))


def run(arguments: list[str]) -> int:
    """Return the exit code of a command line; faults are printed to stderr in two lines."""
    try:
        return _run(arguments)
    except ModuleNotFoundError as fault:
        return _say(f"the package {fault.name} is not installed", INSTALL, 2)
    except Exception as fault:
        if os.environ.get("BRACT_DEBUG"):
            raise
        kind = type(fault).__name__
        return _say(f"bract itself failed ({kind})", "set BRACT_DEBUG=1 for the traceback, and report it", 70)


def _run(arguments: list[str]) -> int:
    import click

    from ..privacy.errors import BractError, printable
    from .commands import app

    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except BractError as fault:
        return _say(fault.what, fault.hint, fault.exit_code)
    except click.UsageError as fault:
        if not fault.format_message():  # a command without a word: its help is printed already
            return 2
        verb = fault.ctx.info_name if fault.ctx and fault.ctx.parent else None
        command = f"bract {verb} --help" if verb else "bract --help"
        return _say(printable(fault.format_message()).rstrip(".").lower(), f"see `{command}`", 2)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", "what was finished is on disk; `bract simulate --resume DIR` goes on", 130)
    except OSError as fault:
        return _refused(fault)


def _flushed(code: int) -> int:
    """Return the code once all that was printed is out, or another where whoever should read it is gone."""
    try:
        sys.stdout.flush()
        return code
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python does not try again, and complain
        if isinstance(fault, BrokenPipeError):
            return PIPE_CLOSED
        return _refused(fault)


def _refused(fault: OSError) -> int:
    """Say what the operating system refused, and return the code of that."""
    what = f"cannot use {fault.filename}" if fault.filename else "cannot go on"
    hint = "see that it is there and yours to use" if fault.filename else "see to that, then run it again"
    return _say(f"{what}: {(fault.strerror or type(fault).__name__).lower()}", hint, 5)


def _say(what: str, hint: str, code: int) -> int:
    print(f"error: {what}\nhint: {hint}", file=sys.stderr)
    return code
