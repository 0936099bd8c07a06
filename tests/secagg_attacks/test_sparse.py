"""What docs/secure-aggregation.md says a sparse graph does not withstand, done to real devices; and who refuses it.

A complete graph's limit is lowered here, so that few devices have a sparse graph: all else is as it is beyond 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lying_server import Honest, World, code_of
from scenes import plan_of, records_of, some_vector, terms_of, world_of

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.disk.step_journal import MemoryJournal
from bract.client.terms import Terms
from bract.privacy import Plan
from bract.privacy.messages import KEYS, SECAGG, SHARES, TRAIN, UNMASK, WHO, model_digest
from bract.privacy.plan import plan
from bract.privacy.plan import rules as plan_rules
from bract.privacy.plan.thresholds import COMPLETE
from bract.privacy.secagg import graph
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.identity import roster_of
from bract.privacy.secagg.keys import Keypair, commitment, own_key
from bract.privacy.secagg.masking import Peer, pair_masks
from bract.privacy.secagg.masks import Mask, add_masks
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.unmask import Reconstruction, TooFewShares
from bract.privacy.server_view import ANSWER, UPDATE, Code

ONE = (0, 1, 1)
BEYOND = COMPLETE + 1


@dataclass(repr=False)
class SparseServer:
    """A server that leads devices through a round as it should, up to the list of survivors."""

    world: World
    cohort: SeatedCohort
    words: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])
    clear: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])
    opened: dict[int, bytes] = field(default_factory=dict[int, bytes])

    @property
    def places(self) -> range:
        return range(len(self.cohort.cards))

    def say(self, place: int, kind: str, **sections: bytes) -> Any:
        return self.world.tell(self.world.honest[place], ONE, kind, **sections)

    def train(self) -> None:
        """Have all share their keys and mask their vectors: none of it is a lie."""
        for place in self.places:
            reply = self.say(place, SHARES, cards=self.cohort.seating(place).to_bytes())
            self.cohort.boxes[place] = _section(reply, "sealed")
        with self.world.overhearing():
            for place in self.places:
                reply = self.say(place, TRAIN, cohort=self.cohort.invitation(place))
                [array] = reply.content.array_records[UPDATE].values()
                self.words[place] = np.frombuffer(array.data, dtype="<u8").copy()
                self.clear[place] = self.world._overheard[-1][0]

    def lie(self, victim: int) -> list[Code]:
        """Tell every device that all neighbours of the victim dropped out, except itself; how they answer."""
        codes: list[Code] = []
        for place in self.places:
            alive = {*self.places} - {*self.cohort.neighbours(victim)} | {place}
            reply = self.say(place, UNMASK, survivors=to_bits(alive, len(self.places)))
            codes.append(code_of(reply))
            if codes[-1] is Code.OK:
                self.opened[place] = _section(reply, "opened")
        return codes

    def read(self, victim: int, opened: dict[int, bytes]) -> np.ndarray:
        """The victim's vector, made of what it sent and of what these devices opened.

        Raises:
            TooFewShares: they opened too little.
        """
        cohort, opening = self.cohort, Reconstruction(self.cohort, opened)
        context, card = cohort.context(model_digest(self.world.parameters, 1.0)), cohort.cards[victim]
        own = opening.secret(victim, "own", lambda secret: commitment(secret) == card.commitment)
        masks = [Mask(own_key(own, card.identity, context), -1)]
        for place in cohort.neighbours(victim):
            other = cohort.cards[place]
            mask = opening.secret(place, "mask", lambda s, other=other: Keypair(s).public(False) == other.mask)
            masks += pair_masks(Keypair(mask), other, [Peer(card)], cohort.session.digest, context)
        words = self.words[victim].copy()
        add_masks(words, masks)
        return words


def _section(reply: Any, name: str) -> bytes:
    assert code_of(reply) is Code.OK
    return bytes(reply.content.config_records[SECAGG][name])


def sparse_server(patch: pytest.MonkeyPatch, size: int, **shares: float) -> SparseServer:
    """So many honest devices, none of them the server's, that sit in their plan's sparse graph and have masked."""
    for module in (graph, plan, plan_rules):
        patch.setattr(module, "COMPLETE", 32)
    world = world_of(plan_of(size, "semi-honest", **shares), honest=size)
    table = world.seat(ONE, world.honest, colluders=0)
    server = SparseServer(world, SeatedCohort(table.session, table.cards))
    assert not server.cohort.graph.complete
    server.train()
    return server


def test_a_lie_in_a_sparse_graph_reads_one_device_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server needs no colluder."""
    server, victim = sparse_server(monkeypatch, 80, colluders=0.05, dropouts=0.3), 37
    assert set(server.lie(victim)) == {Code.OK}
    assert not np.array_equal(server.words[victim], server.clear[victim])
    assert np.array_equal(server.read(victim, server.opened), server.clear[victim])
    around = server.cohort.neighbours(victim)
    told_the_same = {place: shares for place, shares in server.opened.items() if place not in around}
    assert len(told_the_same) == 80 - len(around)
    with pytest.raises(TooFewShares):
        server.read(victim, told_the_same)


def test_the_lie_is_too_long_a_list_for_few_dropouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every device refuses it, in a plan with few dropouts alone: that is no promise, there may be other lies."""
    server = sparse_server(monkeypatch, 40, colluders=0.05, dropouts=0.1)
    assert server.cohort.graph.degree == 6
    assert set(server.lie(11)) == {Code.REFUSED}
    assert not server.opened


def test_the_default_shares_allow_the_dropouts_of_the_lie() -> None:
    """Beyond the complete graph, as many may drop out as the lie needs."""
    made = plan_of(BEYOND, "semi-honest")
    chosen = graph.choose_graph(BEYOND, made.colluders, made.aggregation.dropouts)
    assert (chosen.degree, BEYOND - made.least_survivors) == (252, 307)


def beyond(folder: Path, terms: Terms, offered: Plan) -> tuple[World, Honest, list[Any]]:
    """A device with a ledger that is offered a plan of more than a complete graph takes; what it trained for."""
    world, trained = world_of(offered, honest=1), list[Any]()
    [device] = world.honest
    made = Device(
        records_of(0),
        terms,
        contribute=lambda task: trained.append(task) or some_vector(task),
        identity=device.identity,
        roster=roster_of([device.identity, *world.colluders]),
        journal=device.journal,
        spending=OwnerLedger(folder, terms),
    )
    device.app = make_app(lambda _: made)
    return world, device, trained


WANTS = [{"malicious_server": True}, {"min_survivors": 2}]


@pytest.mark.parametrize("kind", [WHO, KEYS, SHARES, TRAIN])
@pytest.mark.parametrize("wants", WANTS, ids=lambda wants: next(iter(wants)))
def test_who_wants_lies_withstood_refuses_a_sparse_graph(tmp_path: Path, wants: dict[str, Any], kind: str) -> None:
    """At its first message."""
    world, device, trained = beyond(tmp_path, terms_of(**wants), plan_of(BEYOND, "semi-honest"))
    sections = {SHARES: {"cards": bytes(64)}, TRAIN: {"cohort": bytes(64)}}.get(kind, {})
    with world.overhearing():
        for asked in (kind, KEYS):
            reply = world.tell(device, ONE, asked, **sections if asked == kind else {})
            assert code_of(reply) is Code.REFUSED
            assert list(reply.content) == [ANSWER]
    assert isinstance(device.journal, MemoryJournal)
    pages = device.journal.pages
    assert (pages.steps, pages.cards, set(pages.refused)) == (set(), {}, {"1"})
    assert not trained
    assert not world._overheard
    assert not (tmp_path / LEDGER_FILE).exists()


def test_a_device_that_does_not_ask_takes_a_sparse_graph_up(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    world, device, _ = beyond(tmp_path, terms_of(), plan_of(BEYOND, "semi-honest"))
    assert code_of(world.tell(device, ONE, KEYS)) is Code.OK
    assert isinstance(device.journal, MemoryJournal)
    assert device.journal.pages.cards
    assert (tmp_path / LEDGER_FILE).exists()


def test_no_plan_withstands_lies_in_a_sparse_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says so is none."""
    with monkeypatch.context() as patch:
        patch.setattr(plan_rules, "COMPLETE", BEYOND)
        offered = plan_of(BEYOND, "malicious-server")
    world, device, _ = beyond(tmp_path, terms_of(), offered)
    assert code_of(world.tell(device, ONE, KEYS)) is Code.PLAN
    assert not (tmp_path / LEDGER_FILE).exists()
