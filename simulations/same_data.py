"""Whether the data are still those that a run began with: a digest of them, kept in its folder until it has ended.

The digest is as secret as the data: whoever knows all records but one can try that one against it. So its file is for
its owner alone, and it is gone when the run has ended and its folder may be passed on.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..privacy import DataError
from ..privacy.storage import replace_file, storage
from .study import Study

FILE = "data.sha256"


def name_of(study: Study) -> str:
    """Return the file's name in the folder of a sweep, whose runs may be over several data."""
    return f"{hashlib.sha256(study.data.model_dump_json().encode()).hexdigest()[:16]}.{FILE}"


def check_data(path: Path, found: str) -> None:
    """Refuse data of another fingerprint than the one in the file; there may be no file yet.

    Raises:
        DataError: they are other data.
    """
    with storage(path):
        kept = path.read_text("utf-8").strip() if path.exists() else found
    if kept != found:
        raise DataError(
            f"the data are not those that the run in {path.parent} began with",
            "bring those back to where data.path says, or start a new run: choose another --out",
        )


def keep_data(path: Path, found: str) -> None:
    """Keep the fingerprint in the file, unless one is there; several processes may do so at once.

    Raises:
        StorageError: it cannot be written.
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
    """Remove the fingerprint of a run that has ended."""
    with storage(path):
        path.unlink(missing_ok=True)
