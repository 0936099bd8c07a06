"""The round's sum under masks: the server learns it and nothing else of any device's vector.

Two trips a round: one takes the offer out and brings masked vectors in, one takes the list of survivors out and
brings the shares in by which the masks of the sum come off. The keys of the next round travel with them. (In
malicious-server mode a third trip, between the two, has the survivors sign their list.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..privacy import RoundError, Sum
from ..privacy.layers import SEED_BYTES, layer_noise, split_seeds
from ..privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK, Malformed, Sections, model_digest
from ..privacy.ring import Words
from ..privacy.secagg.identity import Roster
from ..privacy.secagg.keys import Card, genuine, read_card, usable
from ..privacy.secagg.members import to_bits
from ..privacy.secagg.seating import Cohort
from ..privacy.secagg.session import Session, make_session
from ..privacy.secagg.shamir import SHARE_BYTES
from ..privacy.secagg.survivors import consents, pack_consents
from ..privacy.secagg.unmask import TooFewShares, unmask
from .exchange import Answer, Request, exchange
from .sums import Call, Collected, Link, said, too_few


@dataclass(frozen=True, repr=False)
class Table:
    """The devices of one round at their places: `nodes` are in the order of the cohort's cards."""

    cohort: Cohort
    nodes: tuple[int, ...]

    @property
    def round(self) -> int:
        """The round's number."""
        return self.cohort.session.round

    def members(self) -> dict[int, int]:
        """Return the position, by node, of each who shared its keys."""
        return {self.nodes[position]: position for position in self.cohort.members}

    def requests(self, nodes: Iterable[int]) -> list[Request]:
        """Return the requests that these nodes share their keys."""
        return [Request(node, SHARES, self.round, self.cards(node)) for node in nodes]

    def cards(self, node: int) -> Sections:
        """Return what a node is told of the others before it shares its keys."""
        return {"cards": self.cohort.seating(self.nodes.index(node)).to_bytes()}

    def take_boxes(self, answer: Answer) -> None:
        """Seat the node as a member of the round, if its answer holds the boxes that it sealed for its neighbours."""
        position, sealed = self.nodes.index(answer.node), answer.sections.get("sealed", b"")
        if len(sealed) == self.cohort.sealed_bytes(position):
            self.cohort.boxes[position] = sealed


class SecureSum:
    """The server's half of secure aggregation over the rounds of one run.

    `roster` says whom it asks to take part; without it, whoever signs a card.
    """

    def __init__(self, link: Link, run: int, roster: Roster | None) -> None:
        self._link, self._run, self._roster = link, run, roster
        self._plan = link.plan
        self._coming: Table | None = None

    def prepared(self, round: int) -> list[int] | None:
        """Return the nodes whose keys for this round came with the round before, if they are enough."""
        table = self._coming
        if table is None or table.round != round or len(table.cohort.boxes) < self._plan.least_survivors:
            return None
        return sorted(table.nodes)

    def collect(self, call: Call, cohort: Sequence[int]) -> Collected:
        """Return the exact sum of the survivors' updates, paid for before any mask comes off.

        Raises:
            RoundError: too few devices answered at some stage; the sum stays masked.
        """
        table = self._table(call, cohort)
        total, survivors, cards, codes = self._masked_sum(call, table)
        signatures = self._consents(call, table, survivors) if self._plan.malicious else None
        call.charge([table.nodes[position] for position in survivors])
        self._coming = self._seat(call.round + 1, cards)
        opened, layers = self._opened(call, table, survivors, signatures)
        try:
            unmask(total, table.cohort, opened, survivors, _model(call))
        except TooFewShares:
            raise RoundError(
                f"the shares that {len(opened)} of {len(survivors)} devices opened do not take the masks off",
                "nothing was released, the round is paid for; look at the devices' own logs, "
                "then go on in the same folder",
            ) from None
        count = self._plan.coordinates(len(call.parameters))
        if layers:
            total -= self._plan.ring.encode(self._surplus(len(survivors), layers, count))
        summed = Sum(self._plan.ring.decode(total, count))
        return Collected(summed, sorted(cohort), sorted(table.nodes[p] for p in survivors), dict(codes))

    def _table(self, call: Call, cohort: Sequence[int]) -> Table:
        coming, ready = self._coming, self.prepared(call.round)
        return coming if coming and ready else self._prepare(call, cohort)

    def _no_cohort(self, round: int, cards: Mapping[int, bytes], asked: int, codes: Counter[str]) -> RoundError:
        session = make_session(self._plan, self._run, round)
        genuine = sum(self._card(data, session) is not None for data in cards.values())
        return RoundError(
            f"{genuine} of {asked} devices showed keys that are of the roster, the round needs "
            f"{self._plan.least_survivors} ({said(codes)})",
            "start more devices, look at the logs of those that refuse, see that the roster is the same everywhere",
        )

    def _require(self, table: Table, count: int, codes: Counter[str], what: str) -> None:
        if count < self._plan.least_survivors:
            raise too_few(count, len(table.nodes), self._plan.least_survivors, codes, what)

    def _exchange(self, call: Call, requests: Sequence[Request], deadline: float) -> Iterator[Answer]:
        return exchange(self._link.grid, self._plan, requests, call.parameters, deadline)

    def _ask(self, call: Call, requests: Sequence[Request], codes: Counter[str]) -> Iterator[Answer]:
        """Yield the answers to requests that need no training, and count their codes."""
        for answer in self._exchange(call, requests, self._plan.aggregation.deadline):
            codes[str(answer.code)] += 1
            yield answer

    def _prepare(self, call: Call, cohort: Sequence[int]) -> Table:
        """Return the table of a round whose keys did not come with the round before: two light trips."""
        codes: Counter[str] = Counter()
        asked = [Request(node, KEYS, call.round) for node in cohort]
        cards = {answer.node: answer.sections.get("card", b"") for answer in self._ask(call, asked, codes)}
        table = self._seat(call.round, cards)
        if table is None:
            raise self._no_cohort(call.round, cards, len(cohort), codes)
        codes.clear()
        for answer in self._ask(call, table.requests(table.nodes), codes):
            table.take_boxes(answer)
        self._require(table, len(table.cohort.boxes), codes, "shares of their keys")
        return table

    def _seat(self, round: int, cards: Mapping[int, bytes]) -> Table | None:
        """Return the table of those nodes whose cards are genuine, or None if they are too few for a round."""
        session = make_session(self._plan, self._run, round)
        seated = {card.identity: (card, node) for node, data in cards.items() if (card := self._card(data, session))}
        order = sorted(seated)
        cohort = Cohort(session, tuple(seated[identity][0] for identity in order))
        table = Table(cohort, tuple(seated[identity][1] for identity in order))
        return table if len(order) >= self._plan.least_survivors else None

    def _card(self, data: bytes, session: Session) -> Card | None:
        try:
            card = read_card(data, session.hybrid)
        except Malformed:
            return None
        roster = Roster(frozenset({card.identity})) if self._roster is None else self._roster
        return card if genuine(card, session.digest, roster) and usable(card) else None

    def _masked_sum(self, call: Call, table: Table) -> tuple[Words, list[int], dict[int, bytes], Counter[str]]:
        """Return the sum of the masked vectors, whose it is, cards for the next round, and the answers by code.

        Vectors are folded as they arrive: the memory for them does not grow with their number.
        """
        members, following = table.members(), call.following(table.nodes)
        requests = [
            Request(node, TRAIN, call.round, self._invitation(table, position, node in following), call.scale)
            for node, position in members.items()
        ]
        requests += [Request(node, KEYS, call.round + 1) for node in following if node not in members]
        total = np.zeros(self._plan.ring.words(self._plan.coordinates(len(call.parameters))), dtype=np.uint64)
        survivors: list[int] = []
        cards: dict[int, bytes] = {}
        codes: Counter[str] = Counter()
        for answer in self._exchange(call, requests, self._plan.cohort.deadline):
            if "card" in answer.sections and answer.node in following:
                cards[answer.node] = answer.sections["card"]
            if answer.request.kind == TRAIN:
                codes[str(answer.code)] += 1
                if not answer.late:
                    self._link.answered()
            if answer.update is not None:
                total += answer.update
                survivors.append(members[answer.node])
        self._require(table, len(survivors), codes, "a masked update")
        return total, sorted(survivors), cards, codes

    def _invitation(self, table: Table, position: int, again: bool) -> Sections:
        return {"cohort": table.cohort.invitation(position)} | ({"keys": b""} if again else {})

    def _consents(self, call: Call, table: Table, survivors: Sequence[int]) -> dict[int, bytes]:
        """Return the survivors' signatures, by position, of the list of survivors."""
        bits, codes = to_bits(survivors, len(table.nodes)), Counter[str]()
        model = _model(call)
        context, cards, signatures = table.cohort.context(model), table.cohort.cards, dict[int, bytes]()
        requests = [Request(table.nodes[p], CONSENT, call.round, {"survivors": bits}) for p in survivors]
        for answer in self._ask(call, requests, codes):
            position, signature = table.nodes.index(answer.node), answer.sections.get("signature", b"")
            if consents(cards[position], signature, context, bits):
                signatures[position] = signature
        self._require(table, len(signatures), codes, "their signature")
        return signatures

    def _opened(
        self, call: Call, table: Table, survivors: Sequence[int], signatures: Mapping[int, bytes] | None
    ) -> tuple[dict[int, bytes], list[bytes]]:
        """Return the shares that devices opened, by position, and the seeds of noise that each gave up.

        The noise of a device that gives up none, or not those it should, stays in the sum: too much is no harm.
        Boxes for the next round come with them, and are taken.
        """
        spare = SEED_BYTES * len(self._spare(len(survivors)))
        bits, coming = to_bits(survivors, len(table.nodes)), self._coming
        asked = {table.nodes[p]: p for p in (survivors if signatures is None else sorted(signatures))}
        signed = {} if signatures is None else {"signatures": pack_consents(signatures)}
        seats = set(coming.nodes) if coming else set[int]()
        requests = [
            Request(node, UNMASK, call.round, {"survivors": bits, **signed, **self._cards(node)}) for node in asked
        ]
        requests += coming.requests(sorted(seats - set(asked))) if coming else []
        opened: dict[int, bytes] = {}
        layers: list[bytes] = []
        for answer in self._ask(call, requests, Counter()):
            if answer.request.kind == UNMASK and self._fits(table, asked[answer.node], answer):
                opened[asked[answer.node]] = answer.sections["opened"]
                layers += [seeds for seeds in [answer.sections.get("layers", b"")] if 0 < len(seeds) == spare]
            if coming and answer.node in seats:
                coming.take_boxes(answer)
        return opened, layers

    def _spare(self, survivors: int) -> Sequence[float]:
        """Return the variances of the layers of noise that so many survivors do not need."""
        place = self._plan.place
        return place.layers[place.kept(survivors) :]

    def _surplus(self, survivors: int, layers: Sequence[bytes], count: int) -> NDArray[np.int64]:
        """Return the noise, int64 [count], of which devices gave up the seeds: layer by layer, a table for each."""
        surplus = np.zeros(count, dtype=np.int64)
        for variance, seeds in zip(self._spare(survivors), zip(*map(split_seeds, layers), strict=True), strict=True):
            surplus += layer_noise([variance] * len(seeds), seeds, count)
        return surplus

    def _cards(self, node: int) -> Sections:
        return self._coming.cards(node) if self._coming and node in self._coming.nodes else {}

    def _fits(self, table: Table, position: int, answer: Answer) -> bool:
        count = len(table.cohort.among(position))
        return len(answer.sections.get("opened", b"")) == SHARE_BYTES * count


def _model(call: Call) -> bytes:
    """Return the digest of what the round offers, which its masks are bound to."""
    return model_digest(call.parameters, call.scale)
