"""How Flower's data set package is called: without telemetry, warnings or progress bars."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing; while it is open `flwr_datasets` is imported and silent, and its telemetry is off for good.

    Warnings and stderr are the process's own: do not hold it open longer than a call takes.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Imported before stderr is turned away: its log handlers keep the stream they find.
        from flwr_datasets.common import telemetry

        telemetry.FLWR_TELEMETRY_ENABLED = "0"  # it may have been imported before the variable was set
        with redirect_stderr(io.StringIO()):
            yield
