"""The `bract` command. Every error prints two lines, and the exit code gives its kind.

This file imports little: the signal handlers must be in place before the first slow import.
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
"""The hint for a missing package: bract is not on a package index."""


def main() -> None:
    """Run the command and exit with its code."""
    signals.listen()
    code = run(sys.argv[1:])
    sys.exit(_flushed(code))


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code; print errors to stderr in two lines."""
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
        if not fault.format_message():  # a command without arguments has already printed its help
            return 2
        verb = fault.ctx.info_name if fault.ctx and fault.ctx.parent else None
        command = f"bract {verb} --help" if verb else "bract --help"
        return _say(printable(fault.format_message()).rstrip(".").lower(), f"see `{command}`", 2)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", "finished rounds are on disk; to resume, type: bract simulate --resume DIR", 130)
    except OSError as fault:
        return _refused(fault)


def _flushed(code: int) -> int:
    """Flush stdout and return `code`, or another code if stdout is closed or cannot be written."""
    try:
        sys.stdout.flush()
        return code
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again at exit and prints a warning
        if isinstance(fault, BrokenPipeError):
            return PIPE_CLOSED
        return _refused(fault)


def _refused(fault: OSError) -> int:
    """Print what the operating system refused, and return the exit code."""
    what = f"cannot use {fault.filename}" if fault.filename else "cannot go on"
    hint = "check that it exists and that you may use it" if fault.filename else "correct that, then run it again"
    return _say(f"{what}: {(fault.strerror or type(fault).__name__).lower()}", hint, 5)


def _say(what: str, hint: str, code: int) -> int:
    print(f"error: {what}\nhint: {hint}", file=sys.stderr)
    return code
