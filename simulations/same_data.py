"""Checks that a resumed run reads the data it began with, by a digest in its folder until the run ends.

The digest is as secret as the data: someone who knows all records but one can test guesses of that one against it.
Only its owner can read the file, and the run deletes it at its end, before the folder is passed on.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..privacy import DataError
from ..privacy.storage import replace_file, storage
from .study import Study

DATA_DIGEST_FILE = "data.sha256"


def name_of(study: Study) -> str:
    """Return the file's name in the folder of a sweep, whose runs may use several data sets."""
    return f"{hashlib.sha256(study.data.model_dump_json().encode()).hexdigest()[:16]}.{DATA_DIGEST_FILE}"


def check_data(path: Path, found: str) -> None:
    """Refuse data with another fingerprint than the file's. A missing file accepts any data.

    Raises:
        DataError: the data have changed.
    """
    with storage(path):
        kept = path.read_text("utf-8").strip() if path.exists() else found
    if kept != found:
        raise DataError(
            f"the data have changed since the run in {path.parent} began",
            "put the original data back at data.path, or start a new run: choose another --out",
        )


def keep_data(path: Path, found: str) -> None:
    """Write the fingerprint to the file unless the file exists; safe if several processes do so at once.

    Raises:
        StorageError: the file cannot be written.
    """
    own = path.with_name(f".{path.name}.{os.getpid()}")
    with storage(path):
        if path.exists():
            return
        try:
            replace_file(own, f"{found}\n".encode(), private=True)
            os.link(own, path)
        except FileExistsError:
            pass
        finally:
            own.unlink(missing_ok=True)


def forget_data(path: Path) -> None:
    """Delete the fingerprint of a finished run."""
    with storage(path):
        path.unlink(missing_ok=True)
