"""The device's side of secure aggregation: it answers the server's messages, and refuses those that could reveal it.

Between two messages of a round, a device keeps its secrets in the node's memory: in Flower's context, which a
SuperNode never writes to disk. It keeps its own secrets until its vector is masked. It keeps the shares of other
devices' secrets until it has opened one share of each device. A device that loses them in a restart has dropped out.
The device records each use of a secret in its journal on disk first, and never repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import accumulate

from flwr.app import ConfigRecord, RecordDict

from ..privacy import Mechanism, Plan
from ..privacy.derive import digest
from ..privacy.mechanisms.dropout_noise import SEED_BYTES
from ..privacy.messages import Malformed
from ..privacy.secagg.bitset import from_bits, to_bits
from ..privacy.secagg.consent import check_context_signatures, consent, count_consents, sign_context
from ..privacy.secagg.identity import Identity, Roster
from ..privacy.secagg.keys import Keypair, RoundSecrets, genuine, make_card, new_secrets
from ..privacy.secagg.masking import Peer, masks_of
from ..privacy.secagg.masks import Mask
from ..privacy.secagg.seating import Seating, read_seating
from ..privacy.secagg.session import Session
from ..privacy.secagg.shamir import SHARE_BYTES
from ..privacy.secagg.shares import SecretShares, hashes, seal, split_secrets, unseal
from .disk.step_journal import Journal, RepeatedStep
from .terms import Refused

SEAT = "bract.secagg."


class NoSeat(Exception):
    """The device has no seat in this round at this stage."""


class BudgetSpent(Exception):
    """The device took part in as many rounds as the plan's noise is calibrated for."""


class BadBoxes(Exception):
    """Boxes do not open, or their shares do not match their hashes; `senders` is the set of senders, as bits."""

    def __init__(self, senders: bytes) -> None:
        super().__init__()
        self.senders = senders


class NotOnRoster(Exception):
    """A card is not signed by a device that the roster admits."""


class Stage(StrEnum):
    """The last step of a round that a device has taken; a stage's value is what the node's memory holds."""

    KEYS = "keys"
    SHARES = "shares"
    MASKED = "masked"
    AGREED = "agreed"
    OPENED = "opened"


@dataclass(frozen=True, repr=False)
class Seat:
    """A device's secrets in a round. A later stage holds fewer of them.

    `session` is the session's digest. At stage `SHARES`, `held` has the two shares of its own secrets that the device
    keeps. At `MASKED` and `AGREED` it has both shares of each member that the device holds shares of, in order.
    `survivors` is the list that it signed. `layers` are the concatenated seeds of the layers of noise in its vector.
    At `OPENED`, `asked` is the digest of the request that the device answered. `held` and `layers` are then the
    values that it sent, and every other field but `session`, `stage` and `card` is empty.
    """

    session: bytes
    stage: Stage
    card: bytes
    mask: bytes = b""
    own: bytes = b""
    channel: bytes = b""
    seating: bytes = b""
    members: bytes = b""
    held: bytes = b""
    context: bytes = b""
    survivors: bytes = b""
    layers: bytes = b""
    asked: bytes = b""

    @property
    def secrets(self) -> RoundSecrets:
        """The device's own secrets, until they are wiped."""
        return RoundSecrets(Keypair(self.mask), self.own, Keypair(self.channel))

    def __repr__(self) -> str:
        return f"Seat({self.stage})"


@dataclass(frozen=True, repr=False)
class SecureRound:
    """One round at one device; `state` stores its seats."""

    session: Session
    mechanism: Mechanism
    identity: Identity
    roster: Roster
    journal: Journal
    state: RecordDict

    @property
    def plan(self) -> Plan:
        """The plan of the mechanism."""
        return self.mechanism.plan

    def keys(self) -> bytes:
        """Return the device's card of fresh keys for this round; they replace earlier ones.

        Raises:
            RepeatedStep: the device masked a vector of this round before.
        """
        self._not_masked()
        self._keep({self.session.round - 1, self.session.round})
        own = new_secrets()
        card = make_card(own, self.identity, self.session.digest, self.session.hybrid).to_bytes()
        self.journal.show(self.session.digest, digest("card", card))
        self._sit(Seat(self.session.digest, Stage.KEYS, card, own.mask.secret, own.own, own.channel.secret))
        return card

    def shares(self, seating: bytes) -> bytes:
        """Return shares of the device's secrets, sealed for each of its neighbours, in their order.

        Raises:
            Malformed, NotOnRoster, Refused: the device may not be part of a cohort with these cards.
            NoSeat: the device showed no card for the round, has lost the latest one, or has shared already.
            RepeatedStep: the device masked a vector of this round before.
        """
        seat = self._seat(Stage.KEYS)
        view = read_seating(seating, self.session)
        self._check_cohort(view, seat)
        if not self.journal.shows(self.session.digest, digest("card", seat.card)):
            raise NoSeat
        self._not_masked()
        self._once("shares", seat.card)
        own_secrets = seat.secrets
        held = split_secrets(own_secrets, view.graph.threshold, tuple(view.cards))
        own = held[tuple(view.cards).index(view.position)]
        self._sit(replace(seat, stage=Stage.SHARES, seating=seating, held=own.own + own.mask))
        me = view.cards[view.position]
        boxes = (
            seal(own_secrets, me, card, share, self.session.digest)
            for card, share in zip(view.cards.values(), held, strict=True)
            if card is not me
        )
        return b"".join((*boxes, hashes(own, me, me, self.session.digest)))

    def acknowledge(self, invitation: bytes) -> None:
        """Check that all boxes of an invitation open, as in `join`, without keeping their content.

        A device answers only one invitation for each card, which may be repeated, and only before it masks.

        Raises:
            Malformed, Refused, NoSeat: the device did not share its secrets for this round.
            BadBoxes: boxes do not open, or their shares do not match their hashes.
            RepeatedStep: the device answered another invitation, or masked a vector of this round.
        """
        seat = self._seat(Stage.SHARES)
        self._not_masked()
        step = digest("step", b"boxes", self.identity.public, self.session.digest, seat.card)
        self.journal.answer(step, digest("boxes", invitation))
        self._open(seat, invitation)

    def join(self, invitation: bytes, model: bytes, layers: bytes = b"") -> list[Mask]:
        """Return the masks for the device's vector, and forget the secrets that they derive from.

        `model` is the digest of the offered parameters. `layers` are the secret seeds of the layers of noise that the
        device may have to reveal. A device that cannot help to open a neighbour's secrets does not take part, so that
        a charged round is not lost.

        Raises:
            Malformed, Refused, NoSeat: the device did not share its secrets for this round.
            BadBoxes: boxes do not open, or their shares do not match their hashes.
            RepeatedStep, BudgetSpent: the device masked a vector of this round before, or has no rounds left.
        """
        self._keep({self.session.round, self.session.round + 1})
        seat = self._seat(Stage.SHARES)
        view, bits, held, peers = self._open(seat, invitation)
        context = self.session.context(view.digest, bits, model)
        held[view.position] = SecretShares(seat.held[:SHARE_BYTES], seat.held[SHARE_BYTES:])
        masks = masks_of(seat.secrets, view.cards[view.position], peers, self.session.digest, context)
        self._take_part()
        known = b"".join(held[member].own + held[member].mask for member in sorted(held))
        self._sit(
            Seat(
                seat.session,
                Stage.MASKED,
                seat.card,
                seating=seat.seating,
                members=bits,
                held=known,
                context=context,
                layers=layers,
            )
        )
        return masks

    def sign_context(self) -> bytes:
        """Return the device's signature on the context of its masks: the members, their cards and the model.

        It is empty in malicious-server mode, where survivors sign a list instead, and in a sparse graph.
        """
        seat = self._seat(Stage.MASKED)
        vouched = not self.plan.malicious and read_seating(seat.seating, self.session).graph.complete
        return sign_context(self.identity, seat.context) if vouched else b""

    def consent(self, survivors: bytes) -> bytes:
        """Return the device's signature on the list of survivors. In a round it signs only one list, as often as
        asked."""
        seat = self._seat(Stage.MASKED, Stage.AGREED)
        self._check_survivors(seat, survivors)
        self._answer("consent", digest("list", survivors))
        self._sit(replace(seat, stage=Stage.AGREED, survivors=survivors))
        return consent(self.identity, seat.context, survivors)

    def unmask(self, survivors: bytes, signatures: bytes | None) -> tuple[bytes, bytes]:
        """Return one share for each member that the device holds shares of, and seeds of noise; forget the others.

        A share is of the member's own mask if it survived, of its mask keys if it dropped out, never of both. The
        seeds are of the layers of the device's noise that this number of survivors does not need. A server that lost
        the answer may ask again: the same request gets the same answer, while the device remembers the round.

        Raises:
            Malformed, Refused, NoSeat: the device may not open shares for this list.
            RepeatedStep: the device opened shares for another request.
        """
        seat = self._seat(Stage.AGREED if self.plan.malicious else Stage.MASKED, Stage.OPENED)
        asked = digest("opening", survivors, *([] if signatures is None else [signatures]))
        if seat.stage is Stage.OPENED:
            if seat.asked != asked:
                raise RepeatedStep
            return seat.held, seat.layers
        view, alive = self._check_survivors(seat, survivors)
        if self.plan.malicious:
            self._check_signatures(seat, view, alive, survivors, signatures)
        elif view.graph.complete:
            check_context_signatures(signatures or b"", view.cards, alive, seat.context)
        elif signatures is not None:
            raise Malformed("signatures without a list to sign")
        self._answer("unmask", asked)
        known = self._known(view, from_bits(seat.members, view.graph.devices))
        opened: list[bytes] = []
        for place, member in enumerate(known):
            start = 2 * SHARE_BYTES * place + (0 if member in alive else SHARE_BYTES)
            opened.append(seat.held[start : start + SHARE_BYTES])
        shares, layers = b"".join(opened), seat.layers[SEED_BYTES * self.mechanism.kept_layers(len(alive)) :]
        self._sit(Seat(seat.session, Stage.OPENED, seat.card, held=shares, layers=layers, asked=asked))
        return shares, layers

    def leave(self) -> None:
        """Forget the round."""
        self.state.pop(self._name, None)

    def _check_cohort(self, view: Seating, seat: Seat) -> None:
        if view.cards[view.position].to_bytes() != seat.card:
            raise Malformed("another card in the device's place")
        self._check_count(view.graph.devices)
        if not all(genuine(card, self.session.digest, self.roster) for card in view.cards.values()):
            raise NotOnRoster

    def _check_members(self, view: Seating, members: tuple[int, ...]) -> None:
        if view.position not in members:
            raise Malformed("the device is not in its own round")
        self._check_count(len(members))

    def _check_survivors(self, seat: Seat, survivors: bytes) -> tuple[Seating, frozenset[int]]:
        view = read_seating(seat.seating, self.session)
        alive = frozenset(from_bits(survivors, view.graph.devices))
        if view.position not in alive or not alive <= set(from_bits(seat.members, view.graph.devices)):
            raise Malformed("not the survivors of this round")
        self._check_count(len(alive))
        if seat.survivors and seat.survivors != survivors:
            raise Refused("there are two lists of survivors")
        return view, alive

    def _check_count(self, count: int) -> None:
        """Refuse a number of seated devices, members, survivors or signers below the least in a sum of the plan."""
        if count < self.session.least:
            raise Refused(f"{count} devices, a sum of this plan opens over {self.session.least} at least")

    def _check_signatures(
        self, seat: Seat, view: Seating, alive: frozenset[int], survivors: bytes, signatures: bytes | None
    ) -> None:
        signed = count_consents(signatures or b"", view.cards, alive, seat.context, survivors)
        self._check_count(signed)

    def _known(self, view: Seating, members: tuple[int, ...]) -> list[int]:
        """Return the members that the device holds shares of, including itself."""
        return [member for member in members if member in view.cards]

    def _open(self, seat: Seat, invitation: bytes) -> tuple[Seating, bytes, dict[int, SecretShares], list[Peer]]:
        """Return the seating, the members as bits, the shares by position, and the peers, from an invitation."""
        view = read_seating(seat.seating, self.session)
        size = -(-view.graph.devices // 8)
        bits, boxes = invitation[:size], invitation[size:]
        members = from_bits(bits, view.graph.devices)
        self._check_members(view, members)
        return view, bits, *self._unseal(view, seat.secrets, members, boxes)

    def _unseal(
        self, view: Seating, own: RoundSecrets, members: tuple[int, ...], boxes: bytes
    ) -> tuple[dict[int, SecretShares], list[Peer]]:
        senders = tuple(member for member in self._known(view, members) if member != view.position)
        sizes = view.box_sizes(senders, self.session.hybrid)
        if len(boxes) != sum(sizes):
            raise Malformed("not a box of each neighbour")
        held, peers, bad = dict[int, SecretShares](), list[Peer](), list[int]()
        me, ends = view.cards[view.position], list(accumulate(sizes))
        for sender, size, end in zip(senders, sizes, ends, strict=True):
            card = view.cards[sender]
            try:
                parcel = unseal(own, card, me, boxes[end - size : end], self.session.digest)
            except Malformed:
                bad.append(sender)
                continue
            held[sender] = parcel.held
            peers.append(Peer(card, parcel.contribution))
        if bad:
            raise BadBoxes(to_bits(bad, view.graph.devices))
        return held, peers

    @property
    def _name(self) -> str:
        return f"{SEAT}{self.session.round}"

    def _seat(self, *stages: Stage) -> Seat:
        """Return the device's seat in this round if it is at one of these stages, else raise NoSeat."""
        record = self.state.config_records.get(self._name)
        if record is None or record["stage"] not in stages or record["session"] != self.session.digest:
            raise NoSeat
        stored = {**record, "stage": Stage(str(record["stage"]))}
        return Seat(**stored)  # pyright: ignore[reportArgumentType]

    def _sit(self, seat: Seat) -> None:
        stored = {f.name: getattr(seat, f.name) for f in fields(seat)}
        self.state[self._name] = ConfigRecord({**stored, "stage": seat.stage.value})

    def _keep(self, rounds: set[int]) -> None:
        """Forget all other rounds, because at most two are open at a time."""
        for name in [name for name in self.state if name.startswith(SEAT)]:
            if int(name.removeprefix(SEAT)) not in rounds:
                del self.state[name]

    def _once(self, step: str, card: bytes = b"") -> None:
        self.journal.first([digest("step", step.encode(), self.identity.public, self.session.digest, card)])

    def _answer(self, step: str, request: bytes) -> None:
        """Record a step that the device does for only one request, which may be repeated."""
        self.journal.answer(digest("step", step.encode(), self.identity.public, self.session.digest), request)

    @property
    def _masking(self) -> bytes:
        """The digest of the masking step, which happens once in a round of a run, for any seating and plan."""
        return digest("masking", self.identity.public, self.session.run, self.session.round)

    def _not_masked(self) -> None:
        if self.journal.has(self._masking):
            raise RepeatedStep

    def _take_part(self) -> None:
        """Record that the device masks a vector in this round, and count one more participation of the plan."""
        self.journal.first([self._masking])
        places = range(1, self.plan.participations + 1)
        try:
            self.journal.first(digest("part", self.session.plan, place) for place in places)
        except RepeatedStep:
            raise BudgetSpent from None
