"""Who a node is: the name that it shows, whatever number it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from bract.privacy import Plan, mechanism_of
from bract.privacy.messages import SECAGG, WHO
from bract.privacy.secagg.identity import introduce, new_identity
from bract.privacy.server_view import ANSWER
from bract.server.directory import Directory

Make = Callable[..., Plan]


class Nodes:
    """A grid of nodes that come and go; `shows` is what each answers, by node, None for no answer."""

    def __init__(self, clock: Any, shows: dict[int, bytes | str | None]) -> None:
        self.clock, self.shows, self.asked = clock, shows, list[list[int]]()
        self.connected: Callable[[], Iterable[int]] = lambda: list(self.shows)
        self.waiting: list[Message] = []
        self.signatures: dict[int, bytes] = {}

    def get_node_ids(self) -> Iterable[int]:
        return self.connected()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = list(messages)
        assert {message.metadata.message_type for message in sent} == {WHO}
        self.asked.append([message.metadata.dst_node_id for message in sent])
        for message in sent:
            message.metadata.__dict__["_message_id"] = f"{len(self.asked)}.{message.metadata.dst_node_id}"
        self.waiting = [m for m in sent if self.shows[m.metadata.dst_node_id] is not None]
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        del message_ids
        given, self.waiting = [self._reply(message) for message in self.waiting], []
        return given

    def _reply(self, message: Message) -> Message:
        said = self.shows[message.metadata.dst_node_id]
        code = said if isinstance(said, str) else "ok"
        content = RecordDict({ANSWER: ConfigRecord({"code": code})})
        if isinstance(said, bytes):
            signature = self.signatures.get(message.metadata.dst_node_id)
            content[SECAGG] = ConfigRecord({"name": said} | ({"signature": signature} if signature else {}))
        return Message(content, reply_to=message)


@pytest.fixture
def nodes(grid: Any, make: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Nodes, Directory]]:
    """A function: nodes that show these names, and the directory of them."""

    def made(**shows: Any) -> tuple[Nodes, Directory]:
        found = Nodes(grid.clock, {int(name[1:]): said for name, said in shows.items()})
        return found, Directory(found, mechanism_of(make()))  # pyright: ignore[reportArgumentType]

    return made


def test_a_client_is_told_by_the_name_its_node_shows(nodes: Callable[..., Any]) -> None:
    """The node is asked once."""
    grid, directory = nodes(n7=b"b", n9=b"a")
    assert list(directory.present().items()) == [("a", 9), ("b", 7)]
    assert directory.present() == {"a": 9, "b": 7}
    assert (directory.name(7), directory.name(9)) == ("b", "a")
    assert grid.asked == [[7, 9]]


def test_a_node_that_is_started_anew_is_the_client_that_it_was(nodes: Callable[..., Any]) -> None:
    grid, directory = nodes(n7=b"b", n9=b"a")
    directory.present()
    grid.shows = {7: b"b", 12: b"a"}
    assert directory.present() == {"a": 12, "b": 7}


@pytest.mark.parametrize("first", [7, 9])
def test_two_nodes_of_one_name_are_one_client(nodes: Callable[..., Any], first: int) -> None:
    """The one that came last speaks for it."""
    grid, directory = nodes(n7=b"a", n9=b"a")
    grid.connected = lambda: [first]
    assert directory.present() == {"a": first}
    grid.connected = lambda: [7, 9]
    assert directory.present() == {"a": 16 - first}
    grid.connected = lambda: [first]
    assert directory.present() == {"a": first}


def test_two_live_nodes_of_one_name_are_said_once(grid: Any, make: Make) -> None:
    """A copied state folder, or an identity in use twice, is not passed over; a node that has gone is none of two."""
    said: list[str] = []
    found = Nodes(grid.clock, {7: b"a" * 64, 9: b"b", 12: b"a" * 64})
    directory = Directory(found, mechanism_of(make()), say=said.append)  # pyright: ignore[reportArgumentType]
    for connected in ([7, 9], [9], [12, 9]):
        found.connected = lambda connected=connected: connected
        directory.present()
        assert not said
    found.connected = lambda: [7, 9, 12]
    directory.present()
    directory.gather(2, 1.0)
    assert [line.split(":")[0] for line in said] == [f"two nodes show one name, {'a' * 12}..."]


@pytest.mark.parametrize(
    "said", [b"", b"a b", b"x" * 65, "\N{GREEK SMALL LETTER ALPHA}".encode(), b"a\n", "terms", None]
)
def test_a_node_that_shows_no_valid_name_is_left_out(nodes: Callable[..., Any], said: Any) -> None:
    _, directory = nodes(n7=said, n9=b"a")
    assert directory.present() == {"a": 9}
    with pytest.raises(KeyError):
        directory.name(7)


def test_a_node_without_a_name_is_asked_again(nodes: Callable[..., Any]) -> None:
    """When a cohort is gathered."""
    grid, directory = nodes(n7="terms", n9=b"a")
    directory.present()
    grid.shows[7] = b"b"
    assert directory.present() == {"a": 9}
    assert directory.gather(2, 10.0) == {"a": 9, "b": 7}
    assert grid.asked == [[7, 9], [7]]


def test_an_identity_that_is_not_signed_for_keeps_nobody_out(grid: Any, make: Make) -> None:
    plan, owner, other, run = make(), new_identity(), new_identity(), 5
    digest = bytes.fromhex(plan.digest)
    forged = (
        b"",
        bytes(64),
        introduce(other, run, digest),
        introduce(owner, run + 1, digest),
        introduce(owner, run, digest[::-1]),
    )
    signatures = dict(enumerate((introduce(owner, run, digest), *forged), 7))
    found = Nodes(grid.clock, dict.fromkeys(signatures, owner.public.hex().encode()))
    found.signatures = signatures
    directory = Directory(found, mechanism_of(plan), run)  # pyright: ignore[reportArgumentType]
    for connected in ([7], [*signatures]):
        found.connected = lambda connected=connected: connected
        assert directory.present() == {owner.public.hex(): 7}
    assert directory.gather(2, 10.0) == {owner.public.hex(): 7}


class TestGathering:
    def test_ends_as_soon_as_there_are_enough(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n7=b"b", n9=b"a", n11=b"c")
        assert list(directory.gather(1, 10.0)) == ["a", "b", "c"]
        assert grid.clock.now == 1000.0

    def test_waits_for_clients_that_connect_in_time(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n7=b"b", n9=b"a")
        grid.connected = lambda: [9] if grid.clock.now < 1002.0 else [9, 7]
        assert list(directory.gather(2, 10.0)) == ["a", "b"]
        assert 1002.0 <= grid.clock.now <= 1002.5

    def test_ends_with_its_deadline(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n9=b"a")
        assert list(directory.gather(2, 10.0)) == ["a"]
        assert 1010.0 <= grid.clock.now <= 1010.5

    def test_waits_for_others_than_those_that_cannot_take_part(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n4=b"d", n6=b"f", n9=b"i")
        grid.connected = lambda: [9, 4] if grid.clock.now < 1002.0 else [9, 4, 6]
        assert list(directory.gather(2, 10.0, excluded={"d", "g"})) == ["d", "f", "i"]
        assert 1002.0 <= grid.clock.now <= 1002.5

    def test_waits_for_nobody_once_all_that_there_are_have_come(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n4=b"d", n6=b"f", n9=b"i")
        assert list(directory.gather(2, 10.0, excluded={"d", "f"}, most=3)) == ["d", "f", "i"]
        assert grid.clock.now == 1000.0
        assert list(directory.gather(2, 10.0, excluded={"d", "f"}, most=4)) == ["d", "f", "i"]
        assert grid.clock.now >= 1010.0

    def test_does_not_ask_a_node_that_hangs_twice(self, nodes: Callable[..., Any]) -> None:
        grid, directory = nodes(n7=None, n9=b"a")
        assert list(directory.gather(2, 10.0)) == ["a"]
        assert grid.asked == [[7, 9]]
