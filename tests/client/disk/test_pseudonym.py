"""The name of a device that is on no roster: it follows the state folder, and links no two studies."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from devices import make_message, make_offer, make_tiny_plan, node_context, random_records
from flwr.app import Context

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.pseudonym import PSEUDONYM_FILE, Pseudonym
from bract.client.terms import Terms
from bract.privacy import Plan, StateError
from bract.privacy.messages import OFFER, SECAGG, WHO
from bract.privacy.secagg.identity import introduces, new_identity
from bract.privacy.server_view import ANSWER

ONE, OTHER = "a" * 64, "b" * 64


def show(folder: Path) -> str:
    return Pseudonym(folder).of(ONE)


def test_a_folder_has_one_name_a_plan_after_every_restart(tmp_path: Path) -> None:
    name = Pseudonym(tmp_path / "state").of(ONE)
    assert Pseudonym(tmp_path / "state").of(ONE) == name
    assert len(name) == 64
    assert int(name, 16)


def test_names_under_two_plans_and_of_two_folders_are_unlike(tmp_path: Path) -> None:
    names = {Pseudonym(tmp_path / folder).of(digest) for folder in ("a", "b") for digest in (ONE, OTHER)}
    assert len(names) == 4


def test_processes_that_start_at_once_show_one_name(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        assert len(set(pool.map(show, [tmp_path / "state"] * 16))) == 1


def test_the_secret_is_its_owners_alone(tmp_path: Path) -> None:
    show(tmp_path)
    path = tmp_path / PSEUDONYM_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(StateError, match="users other than its owner can read"):
        show(tmp_path)


@pytest.mark.parametrize("place", [0, 20, 60, -1])
def test_a_damaged_secret_is_refused_by_name_and_kept(tmp_path: Path, place: int) -> None:
    show(tmp_path)
    path = tmp_path / PSEUDONYM_FILE
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    for damaged in (bytes(content), path.read_bytes()[:place], b""):
        path.write_bytes(damaged)
        with pytest.raises(StateError, match=f"{PSEUDONYM_FILE} is damaged"):
            show(tmp_path)
        assert path.read_bytes() == damaged


KILLED = """
import os, signal, sys
from pathlib import Path
from bract.client.disk.pseudonym import Pseudonym
from bract.privacy import storage as files
calls = {"left": int(sys.argv[2])}
for name in ("write", "fsync", "replace", "close"):
    def dying(*arguments, real=getattr(os, name), **more):
        if not calls["left"]:
            os.kill(os.getpid(), signal.SIGKILL)
        calls["left"] -= 1
        return real(*arguments, **more)
    setattr(files.os, name, dying)
print(Pseudonym(Path(sys.argv[1])).of("a" * 64), flush=True)
"""


def test_a_name_that_was_shown_outlives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """The process dies at each call to the system in turn, before or after it shows its name."""
    for calls in range(9):
        folder = tmp_path / str(calls)
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder), str(calls)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        name = show(folder)
        assert done.stdout.strip() in ("", name)
        assert show(folder) == name


class TestADeviceThatIsAskedWhoItIs:
    def ask(self, device: Device, plan: Plan) -> Any:
        content = make_offer(plan)
        del content["parameters"]
        state: Context = node_context()
        return make_app(lambda _: device)(make_message(content, WHO), state).content

    def test_shows_its_pseudonym_and_nothing_else(self, tmp_path: Path) -> None:
        device = Device(random_records(3), Terms(clear_updates=True), pseudonym=Pseudonym(tmp_path))
        said = self.ask(device, make_tiny_plan())
        assert dict(said.config_records[ANSWER]) == {"code": "ok"}
        assert dict(said.config_records[SECAGG]) == {"name": Pseudonym(tmp_path).of(make_tiny_plan().digest).encode()}
        assert not said.array_records

    def test_shows_and_signs_for_its_identity_under_masks(self, tmp_path: Path) -> None:
        """Under secure aggregation a device shows the key of its identity."""
        identity = new_identity()
        plan = make_tiny_plan(
            aggregation={"protocol": "secagg"}, cohort={"size": 2, "minimum": 2}, data={"clients": 2}
        )
        device = Device(random_records(3), Terms(), pseudonym=Pseudonym(tmp_path), identity=identity)
        said = self.ask(device, plan)
        shown = dict(said.config_records[SECAGG])
        assert shown.keys() == {"name", "signature"}
        assert shown["name"] == identity.public.hex().encode()
        assert introduces(identity.public, bytes(shown["signature"]), 1, bytes.fromhex(plan.digest))  # pyright: ignore

    def test_shows_nothing_for_a_plan_that_its_terms_refuse(self, tmp_path: Path) -> None:
        device = Device(random_records(3), Terms(), pseudonym=Pseudonym(tmp_path))
        said = self.ask(device, make_tiny_plan())
        assert dict(said.config_records[ANSWER]) == {"code": "refused"}
        assert list(said) == [ANSWER]
        assert not (tmp_path / PSEUDONYM_FILE).exists()


def test_a_mixed_message_is_no_question() -> None:
    device = Device(random_records(3), Terms(clear_updates=True))
    content = make_offer(make_tiny_plan())
    assert OFFER in content
    reply = make_app(lambda _: device)(make_message(content, WHO), node_context())
    assert dict(reply.content.config_records[ANSWER]) == {"code": "plan"}
