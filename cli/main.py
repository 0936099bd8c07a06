"""The `bract` command. Whatever goes wrong is said in two lines, and the exit code tells its kind."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import click
import typer

from ..privacy.errors import BractError
from .budget import budget
from .ledger import ledger
from .partition import partition
from .simulate import simulate
from .sweep import sweep

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Federated learning under a stated (epsilon, delta)."
)
app.command()(simulate)
app.command()(sweep)
app.command()(budget)
app.command()(partition)
app.add_typer(ledger, name="ledger")


@app.callback()
def bract() -> None:
    """Train one model over many owners' data, under a stated (epsilon, delta)."""


def main() -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit code of a command line; faults are printed to stderr in two lines."""
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except BractError as fault:
        return _say(fault.what, fault.hint, fault.exit_code)
    except click.UsageError as fault:
        return _say(fault.format_message().rstrip(".").lower(), "see `bract --help`", 2)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", "what was finished is on disk; `bract simulate --resume DIR` goes on", 130)
    except ModuleNotFoundError as fault:
        return _say(f"the package {fault.name} is not installed", "pip install 'bract[sim]'", 2)
    except Exception as fault:
        if os.environ.get("BRACT_DEBUG"):
            raise
        kind = type(fault).__name__
        return _say(f"bract itself failed ({kind})", "set BRACT_DEBUG=1 for the traceback, and report it", 70)


def _say(what: str, hint: str, code: int) -> int:
    print(f"error: {what}\nhint: {hint}", file=sys.stderr)
    return code
