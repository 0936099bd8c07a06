"""Secure aggregation at the server: it learns the sum, and nothing more about any device's vector.

A round has two phases. In the first, the server sends the offer and receives masked vectors. In the second, it sends
the list of survivors and receives the shares that unmask the sum. The same messages carry the keys of the next round.
In malicious-server mode, survivors sign their list in a third phase between the two. After a box of the run did not
open, each round starts with one more phase, which asks devices whether their boxes open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...privacy import Sum
from ...privacy.mechanisms.dropout_noise import SEED_BYTES, layer_noise, split_seeds
from ...privacy.messages import BOXES, CONSENT, KEYS, SHARES, TRAIN, UNMASK, Malformed, Sections, model_digest
from ...privacy.secagg.bitset import to_bits
from ...privacy.secagg.consent import consents, pack_consents, signed_context
from ...privacy.secagg.identity import Roster
from ...privacy.secagg.keys import Card, genuine, read_card, usable
from ...privacy.secagg.seating import SeatedCohort
from ...privacy.secagg.session import Session, make_session
from ...privacy.secagg.unmask import TooFewShares, unmask
from ...privacy.server_view import Code
from ..answers import Answers, RoundFailed, too_few
from ..exchange import Answer, Request, exchange
from .accusations import Accusations
from .base import DeviceLink, RoundInput, RoundSum
from .secure_state import CohortNodes, MaskedSum, OpenedShares


class SecureSum:
    """The server's side of secure aggregation over the rounds of one run.

    `roster` lists the devices that may take part; without it, every device with a signed card may. `counted` returns
    the name that a node is counted by; with a roster, the identity of its card must be this name.
    """

    def __init__(
        self, link: DeviceLink, run: int, roster: Roster | None, counted: Callable[[int], str] | None = None
    ) -> None:
        self._link, self._run, self._roster, self._counted = link, run, roster, counted
        self._mechanism, self._plan = link.mechanism, link.mechanism.plan
        self._coming: CohortNodes | None = None
        self._identities: dict[int, bytes] = {}
        self._accusations = Accusations(self._plan.colluders)

    def prepared(self, round: int) -> list[int] | None:
        """Return the nodes whose keys for this round came with the round before, or None if they are too few."""
        seated = self._coming
        if seated is None or seated.round != round or len(seated.cohort.boxes) < self._plan.least_survivors:
            return None
        if any(self._accusations.left_out(card.identity) for card in seated.cohort.cards):
            return None
        return sorted(seated.nodes)

    def collect(self, call: RoundInput, cohort: Sequence[int]) -> RoundSum:
        """Return the exact sum of the survivors' vectors; it is charged before it is unmasked.

        Raises:
            RoundError: too few devices answered in some phase; the sum stays masked.
        """
        seated = self._seated(call, cohort)
        if self._accusations.disputed:
            self._acknowledge(call, seated)
        masked = self._masked_sum(call, seated)
        survivors = masked.survivors
        signatures = self._consents(call, seated, survivors) if self._plan.malicious else masked.signatures
        call.charge([seated.nodes[position] for position in survivors])
        self._coming = self._seat(call.round + 1, masked.cards)
        opening = Answers(UNMASK)
        layers = self._unmask(call, seated, masked, signatures, opening)
        total, count = masked.total, self._mechanism.coordinates(len(call.parameters))
        if layers:
            total -= self._mechanism.grid.ring.encode(self._surplus(len(survivors), layers, count))
        summed = Sum(self._mechanism.grid.ring.decode(total, count))
        nodes = sorted(seated.nodes[position] for position in survivors)
        return RoundSum(summed, sorted(cohort), nodes, masked.answers.codes, opening.codes)

    def _seated(self, call: RoundInput, cohort: Sequence[int]) -> CohortNodes:
        coming, ready = self._coming, self.prepared(call.round)
        self._coming = None  # a round that fails and is tried again needs other keys
        return coming if coming and ready else self._prepare(call, cohort)

    def _no_cohort(self, round: int, cards: Mapping[int, bytes], asked: int, answers: Answers) -> RoundFailed:
        session = make_session(self._plan, self._run, round)
        genuine = sum(self._card(data, session) is not None for data in cards.values())
        return RoundFailed(
            f"{genuine} of {asked} devices showed keys that are on the roster, the round needs "
            f"{self._plan.least_survivors} ({answers})",
            "start more devices, look at the logs of those that refuse, see that the roster is the same everywhere",
            answers,
        )

    def _require(
        self, seated: CohortNodes, count: int, answers: Answers, what: str, took_part: Collection[int] = ()
    ) -> None:
        if count < self._plan.least_survivors:
            raise too_few(count, len(seated.nodes), self._plan.least_survivors, answers, what, took_part)

    def _exchange(self, call: RoundInput, requests: Sequence[Request], deadline: float) -> Iterator[Answer]:
        return exchange(self._link.grid, self._mechanism, requests, call.parameters, deadline)

    def _ask(self, call: RoundInput, requests: Sequence[Request], answers: Answers) -> Iterator[Answer]:
        """Yield the answers to requests other than to train; add answers of the same kind as `answers` to it.

        At the end, devices that did not answer OK are reported.
        """
        for answer in self._exchange(call, requests, self._plan.aggregation.deadline):
            if answer.request.kind == answers.kind:
                answers.take(answer)
            yield answer
        self._link.tell(call.round, answers, self._name)

    def _name(self, node: int) -> str:
        """Return the roster's name of a node's identity, or another name for the log."""
        identity = self._identities.get(node)
        if identity is None:
            return self._link.name(node)
        return (self._roster.names.get(identity) if self._roster else None) or f"device {identity.hex()[:8]}"

    def _prepare(self, call: RoundInput, cohort: Sequence[int]) -> CohortNodes:
        """Return the seated cohort, in two short phases, of a round whose keys did not come with the round before."""
        answers = Answers(KEYS)
        asked = [Request(node, KEYS, call.round) for node in cohort]
        cards = {answer.node: answer.sections.get("card", b"") for answer in self._ask(call, asked, answers)}
        seated = self._seat(call.round, cards)
        if seated is None:
            raise self._no_cohort(call.round, cards, len(cohort), answers)
        answers = Answers(SHARES)
        for answer in self._ask(call, seated.requests(seated.nodes), answers):
            seated.take_boxes(answer)
        self._require(seated, len(seated.cohort.boxes), answers, "shares of their keys")
        return seated

    def _seat(self, round: int, cards: Mapping[int, bytes]) -> CohortNodes | None:
        """Return the seated cohort of the nodes with genuine cards, or None if they are too few for a round."""
        session = make_session(self._plan, self._run, round)
        genuine = {node: card for node, data in cards.items() if (card := self._card(data, session))}
        self._identities |= {node: card.identity for node, card in genuine.items()}
        counted = {node: card for node, card in genuine.items() if self._is_counted(node, card)}
        seated = {c.identity: (c, node) for node, c in counted.items() if not self._accusations.left_out(c.identity)}
        order = sorted(seated)
        cohort = SeatedCohort(session, tuple(seated[identity][0] for identity in order))
        seated = CohortNodes(cohort, tuple(seated[identity][1] for identity in order))
        return seated if len(order) >= self._plan.least_survivors else None

    def _is_counted(self, node: int, card: Card) -> bool:
        """Return whether the node is counted by its card's identity; True without a roster, as in simulations."""
        return self._roster is None or self._counted is None or self._counted(node) == card.identity.hex()

    def _card(self, data: bytes, session: Session) -> Card | None:
        try:
            card = read_card(data, session.hybrid)
        except Malformed:
            return None
        roster = Roster(frozenset({card.identity})) if self._roster is None else self._roster
        return card if genuine(card, session.digest, roster) and usable(card) else None

    def _acknowledge(self, call: RoundInput, seated: CohortNodes) -> None:
        """Ask the members whether their boxes open, before any training or charge, and remove some of them.

        Members without a usable answer are left out of the round, and so is one of each two that disagree.
        """
        members, answers, named = seated.members(), Answers(BOXES), dict[int, set[int]]()
        requests = [
            Request(node, BOXES, call.round, self._invitation(seated, position, False))
            for node, position in members.items()
        ]
        for answer in self._ask(call, requests, answers):
            position = members[answer.node]
            bad = self._accused(seated, position, answer) if answer.code is Code.SEALED else set[int]()
            if bad or answer.code is Code.OK:
                named[position] = bad
        out = self._accusations.choose_left_out(seated.cohort, named, self._plan.least_survivors)
        if out:
            names = ", ".join(sorted(self._name(seated.nodes[position]) for position in out))
            self._link.say(f"round {call.round}: left out because of disputed boxes: {names}")
        seated.acknowledged.update(set(named) - out)
        for position in set(seated.cohort.boxes) - seated.acknowledged:
            del seated.cohort.boxes[position]
        self._require(seated, len(seated.acknowledged), answers, "a confirmation of their boxes")

    def _masked_sum(self, call: RoundInput, seated: CohortNodes) -> MaskedSum:
        """Return the sum of the masked vectors. Each is added when it arrives, so memory does not grow with them."""
        members, next_cohort = seated.members(), call.next_cohort(seated.nodes)
        count = self._mechanism.coordinates(len(call.parameters))
        masked = MaskedSum(np.zeros(self._mechanism.grid.ring.words(count), dtype=np.uint64))
        silent, context = set(members.values()), seated.cohort.context(_model(call))
        requests = self._train_requests(call, seated, next_cohort)
        for answer in self._exchange(call, requests, self._plan.cohort.deadline):
            if "card" in answer.sections and answer.node in next_cohort:
                masked.cards[answer.node] = answer.sections["card"]
            if answer.request.kind == TRAIN and self._take_vector(seated, masked, answer, context):
                silent.remove(members[answer.node])
        self._link.tell(call.round, masked.answers, self._name)
        self._accusations.note_silent(seated.cohort, silent)
        trained = set(members) - masked.answers.untouched
        self._require(seated, len(masked.signatures), masked.answers, "a masked update", trained)
        return masked

    def _train_requests(self, call: RoundInput, seated: CohortNodes, next_cohort: Sequence[int]) -> list[Request]:
        """Return the requests to train, which also ask the next cohort for its cards."""
        members = seated.members()
        return [
            Request(node, TRAIN, call.round, self._invitation(seated, position, node in next_cohort), call.scale)
            for node, position in members.items()
        ] + [Request(node, KEYS, call.round + 1) for node in next_cohort if node not in members]

    def _take_vector(self, seated: CohortNodes, masked: MaskedSum, answer: Answer, context: bytes) -> bool:
        """Add the vector in an answer to a request to train, and return whether there was one, or an accusation."""
        position, signature = seated.nodes.index(answer.node), answer.sections.get("signature", b"")
        masked.answers.take(answer)
        if not answer.late:
            self._link.answered()
        if answer.code is Code.SEALED:
            return bool(self._accused(seated, position, answer))
        signs = self._signs_context(seated)
        if answer.update is None or (signs and not signed_context(seated.cohort.cards[position], signature, context)):
            return False
        masked.add(position, answer.update, signature)
        return True

    def _accused(self, seated: CohortNodes, accuser: int, answer: Answer) -> set[int]:
        """Return the senders that a member accuses; a member that acknowledged their boxes before lies."""
        if accuser in seated.acknowledged:
            self._accusations.note_liar(seated.cohort.cards[accuser].identity)
            return set()
        return self._accusations.note(seated.cohort, accuser, answer.sections["senders"])

    def _signs_context(self, seated: CohortNodes) -> bool:
        """Whether each device signs the context of its masks: in semi-honest mode with a complete graph."""
        return not self._plan.malicious and seated.cohort.graph.complete

    def _invitation(self, seated: CohortNodes, position: int, again: bool) -> Sections:
        return {"cohort": seated.cohort.invitation(position)} | ({"keys": b""} if again else {})

    def _consents(self, call: RoundInput, seated: CohortNodes, survivors: Sequence[int]) -> dict[int, bytes]:
        """Return the survivors' signatures on the list of survivors, by position.

        If there are too few, late devices are asked again for the same list, because a device signs only one.
        """
        bits, signatures = to_bits(survivors, len(seated.nodes)), dict[int, bytes]()
        model = _model(call)
        context, cards = seated.cohort.context(model), seated.cohort.cards
        asked, answers = {seated.nodes[p]: p for p in survivors}, Answers(CONSENT)
        for _ in self._link.tries(f"round {call.round}: late devices are asked again to sign"):
            found = Answers(CONSENT)
            requests = [Request(node, CONSENT, call.round, {"survivors": bits}) for node in asked]
            for answer in self._ask(call, requests, found):
                position, signature = asked[answer.node], answer.sections.get("signature", b"")
                if consents(cards[position], signature, context, bits):
                    signatures[position] = signature
            answers.update(found)
            asked = {node: p for node, p in asked.items() if node in found.late}
            if not asked or len(signatures) >= self._plan.least_survivors:
                break
        self._require(seated, len(signatures), answers, "their signature", [seated.nodes[p] for p in survivors])
        return signatures

    def _unmask(
        self,
        call: RoundInput,
        seated: CohortNodes,
        masked: MaskedSum,
        signatures: Mapping[int, bytes],
        answers: Answers,
    ) -> list[bytes]:
        """Unmask the sum in place; return the seeds of noise that each device revealed.

        If there are too few shares, late devices are asked again with the identical request, because a device answers
        no other. If a device does not reveal the right seeds, its surplus noise stays in the sum, which does no harm
        to privacy. The answers also bring the boxes of the next round.

        Raises:
            RoundFailed: the shares do not unmask the sum.
        """
        survivors = masked.survivors
        opened = OpenedShares(seated, SEED_BYTES * len(self._spare(len(survivors))))
        asked = {seated.nodes[position]: position for position in sorted(signatures)}
        requests = self._unmask_requests(call, seated, survivors, signatures, asked)
        others = self._coming.requests(set(self._coming.nodes) - set(asked)) if self._coming else []
        for _ in self._link.tries(f"round {call.round}: late devices are asked again for shares"):
            late = self._collect_shares(call, opened, asked, [*requests, *others], answers)
            try:
                unmask(masked.total, seated.cohort, opened.shares, survivors, _model(call))
                return list(opened.layers.values())
            except TooFewShares as fault:
                requests, others = [request for request in requests if request.node in late], []
                if fault.dealer is not None:
                    self._accusations.note_liar(seated.cohort.cards[fault.dealer].identity)
                    break
            if not requests:
                break
        raise self._not_unmasked(seated, opened, survivors, answers)

    def _unmask_requests(
        self,
        call: RoundInput,
        seated: CohortNodes,
        survivors: Sequence[int],
        signatures: Mapping[int, bytes],
        asked: Collection[int],
    ) -> list[Request]:
        """Return the requests for the shares that unmask the sum; some also bring the cards of the next round."""
        sections = {"survivors": to_bits(survivors, len(seated.nodes))}
        if self._plan.malicious or self._signs_context(seated):
            sections |= {"signatures": pack_consents(signatures)}
        return [Request(node, UNMASK, call.round, {**sections, **self._cards(node)}) for node in asked]

    def _collect_shares(
        self,
        call: RoundInput,
        opened: OpenedShares,
        asked: Mapping[int, int],
        requests: Sequence[Request],
        answers: Answers,
    ) -> set[int]:
        """Add the shares in the answers to these requests, and return the nodes that were late with theirs."""
        found = Answers(UNMASK)
        for answer in self._ask(call, requests, found):
            self._take(opened, asked.get(answer.node), answer)
        answers.update(found)
        return found.late

    def _not_unmasked(
        self, seated: CohortNodes, opened: OpenedShares, survivors: Sequence[int], answers: Answers
    ) -> RoundFailed:
        return RoundFailed(
            f"the shares that {len(opened.shares)} of {len(survivors)} devices opened do not unmask the sum "
            f"({answers})",
            "nothing was released, the round is paid for; look at the devices' own logs, "
            "then go on in the same folder",
            answers,
            paid=True,
            cohort=len(seated.nodes),
            survivors=len(survivors),
        )

    def _take(self, opened: OpenedShares, position: int | None, answer: Answer) -> None:
        """Add the shares that a device opened, if it has a position, and its boxes for the next round."""
        if position is not None:
            opened.take(position, answer)
        if self._coming and answer.node in self._coming.nodes:
            self._coming.take_boxes(answer)

    def _spare(self, survivors: int) -> Sequence[float]:
        """Return the variances of the layers of noise that this number of survivors does not need."""
        return self._mechanism.layers[self._mechanism.kept_layers(survivors) :]

    def _surplus(self, survivors: int, layers: Sequence[bytes], count: int) -> NDArray[np.int64]:
        """Return the surplus noise, int64 [count], of all layers whose seeds devices revealed."""
        surplus = np.zeros(count, dtype=np.int64)
        for variance, seeds in zip(self._spare(survivors), zip(*map(split_seeds, layers), strict=True), strict=True):
            surplus += layer_noise([variance] * len(seeds), seeds, count)
        return surplus

    def _cards(self, node: int) -> Sections:
        return self._coming.cards(node) if self._coming and node in self._coming.nodes else {}


def _model(call: RoundInput) -> bytes:
    """Return the digest of the round's parameters and scale, which its masks are derived for."""
    return model_digest(call.parameters, call.scale)
