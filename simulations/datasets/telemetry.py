"""Silences Flower's data set package: no telemetry, warnings or progress bars."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Import `flwr_datasets` and silence it inside the context; turn its telemetry off permanently.

    Warnings and stderr are silenced for the whole process, so keep the context as short as one call.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Import before stderr is redirected: the package's log handlers keep the stream they find.
        from flwr_datasets.common import telemetry

        telemetry.FLWR_TELEMETRY_ENABLED = "0"  # it may have been imported before the variable was set
        with redirect_stderr(io.StringIO()):
            yield
