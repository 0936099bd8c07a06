"""Kill -9 at a thousand random moments of a loop that spends: no acknowledged charge is ever lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
from bract.privacy import Budget, Entry, Gaussian, Ledger
from bract.privacy.ledger.entries import DEVICE, Origin
from bract.privacy.ledger.ledger import DeviceLedger

kind, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
random.seed(kills)
write = os.write

def opened(path):
    if kind == "server":
        return Ledger(path, Budget(None, 1e-5, "record", "released"), "d" * 64)
    return DeviceLedger(path, Budget(None, 1e-5, "record", "server"))

def entry(number):
    clients = tuple(map(str, range(50))) if kind == "server" else (DEVICE,)
    return Entry(number, f"r{number}", clients, Gaussian(1.0), Gaussian(1.0), Origin("p", "r"))

def spend_for_ever(path, told):
    while True:
        with opened(path) as ledger:
            while True:
                number = len(ledger.entries) + 1
                ledger.spend(entry(number))
                write(told, b".")
                if kind == "device":
                    break

def in_pieces(descriptor, data):
    time.sleep(0.0002)
    return write(descriptor, bytes(data)[:random.randint(1, 80)])

acknowledged = on_disk = total = torn = 0
for kill in range(kills):
    if kill % 50 == 0:  # a new ledger now and then: one that is being made can be killed too
        path, acknowledged, on_disk = folder / f"ledger-{kill}", 0, 0
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        if kill % 2:  # lines reach the disk in pieces, as a slow disk would take them
            os.write = in_pieces
        spend_for_ever(path, told)
    os.close(told)
    for _ in range(random.randint(0, 3)):
        acknowledged += len(os.read(heard, 1))
    time.sleep(random.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(heard, 65536):
        acknowledged += len(more)
    os.close(heard)
    content = path.read_bytes() if path.exists() else b""
    torn += bool(content) and not content.endswith(b"\\n")
    with opened(path) as after:
        numbers = [one.round for one in after.entries]
        assert not content or path.read_bytes() == content[:content.rfind(b"\\n") + 1] or b"\\n" not in content
    assert numbers == list(range(1, len(numbers) + 1)), "entries are missing, or there twice"
    assert max(acknowledged, on_disk) <= len(numbers) <= max(acknowledged, on_disk) + 1, (acknowledged, len(numbers))
    total += len(numbers) - on_disk
    acknowledged = on_disk = len(numbers)
print(json.dumps({"kills": kill + 1, "charges": total, "torn": torn}))
"""


@pytest.mark.e2e
@pytest.mark.parametrize(("kind", "kills"), [("server", 1000), ("device", 1000)])
def test_a_killed_ledger_opens_with_all_that_was_acknowledged(kind: str, kills: int, tmp_path: Path) -> None:
    """Whatever moment its process is killed at."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(tmp_path), str(kills)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kills"] == kills
    assert said["charges"] > kills
    assert said["torn"] > 0  # some kills came in the middle of a line
