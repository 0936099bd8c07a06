"""A device's half of secure aggregation: it answers the server's messages, or refuses what could lay it bare.

Between two messages of a round a device keeps its secrets in the node's own memory (Flower's context, which a
SuperNode never writes to disk), each only as long as it is needed: its own until its vector is masked, the shares of
the others' until it has opened one of each. A device that lost them, because it was started anew, has dropped out.
Whatever it does with a secret it first notes in its journal, which is on disk, and never does again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import accumulate

from flwr.app import ConfigRecord, RecordDict

from ..privacy import Mechanism, Plan
from ..privacy.mechanisms.dropout_noise import SEED_BYTES
from ..privacy.messages import Malformed
from ..privacy.secagg.bitset import from_bits, to_bits
from ..privacy.secagg.consent import check_vouched, consent, count_consents, vouch
from ..privacy.secagg.derive import digest
from ..privacy.secagg.identity import Identity, Roster
from ..privacy.secagg.keys import Keypair, RoundSecrets, genuine, make_card, new_secrets
from ..privacy.secagg.masking import Peer, masks_of
from ..privacy.secagg.masks import Mask
from ..privacy.secagg.roster_view import Seating, read_seating
from ..privacy.secagg.session import Session
from ..privacy.secagg.shamir import SHARE_BYTES
from ..privacy.secagg.shares import Held, hashes, seal, split_secrets, unseal
from .memory.step_journal import Journal, Repeated
from .terms import Refused

SEAT = "bract.secagg."


class Lost(Exception):
    """The device has no seat in this round, or not at this stage of it."""


class BudgetSpent(Exception):
    """The device took part in as many rounds as the plan's noise was sized for."""


class BadlySealed(Exception):
    """Boxes do not open, or to something else than their senders gave hashes of; `senders` names these, as bits."""

    def __init__(self, senders: bytes) -> None:
        super().__init__()
        self.senders = senders


class Stranger(Exception):
    """A card is not signed by one whom the device's roster admits."""


@dataclass(frozen=True, repr=False)
class Seat:
    """What a device remembers of a round that is under way: secret, and the less the further the round is.

    `session` is the digest of the session, `stage` the last message it answered: `keys`, `shares`, `masked`, `agreed`
    or `opened`. `held` are its shares: of its own secrets first, then of all members it knows, in order; `survivors`
    is the list it signed. `layers` are the seeds, one after another, of the layers of noise in its vector. Once it
    has opened its shares it remembers `asked`, the digest of the request that it answered, and in `held` and `layers`
    what it gave away; nothing else.
    """

    session: bytes
    stage: str
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
    """One round as one device sees it; `state` is where its seats are kept."""

    session: Session
    mechanism: Mechanism
    identity: Identity
    roster: Roster
    journal: Journal
    state: RecordDict

    @property
    def plan(self) -> Plan:
        """The mechanism's."""
        return self.mechanism.plan

    def keys(self) -> bytes:
        """Return the device's card: fresh keys for this round, in place of any that it had for it.

        Raises:
            Repeated: it masked a vector of this round before.
        """
        self._not_masked()
        self._keep({self.session.round - 1, self.session.round})
        own = new_secrets()
        card = make_card(own, self.identity, self.session.digest, self.session.hybrid).to_bytes()
        self.journal.show(self.session.digest, digest("card", card))
        self._sit(Seat(self.session.digest, "keys", card, own.mask.secret, own.own, own.channel.secret))
        return card

    def shares(self, seating: bytes) -> bytes:
        """Return shares of the device's secrets, sealed for each of its neighbours, in their order.

        Raises:
            Malformed, Stranger, Refused: the cards are not those of a cohort that the device may be part of.
            Lost: it shows no card for the round, a later one than it remembers, or has shared already.
            Repeated: it masked a vector of this round before.
        """
        seat = self._seat("keys")
        view = read_seating(seating, self.session)
        self._check_cohort(view, seat)
        if not self.journal.shows(self.session.digest, digest("card", seat.card)):
            raise Lost
        self._not_masked()
        self._once("shares", seat.card)
        own_secrets = seat.secrets
        held = split_secrets(own_secrets, view.graph.threshold, tuple(view.cards))
        own = held[tuple(view.cards).index(view.position)]
        self._sit(replace(seat, stage="shares", seating=seating, held=own.own + own.mask))
        me = view.cards[view.position]
        boxes = (
            seal(own_secrets, me, card, share, self.session.digest)
            for card, share in zip(view.cards.values(), held, strict=True)
            if card is not me
        )
        return b"".join((*boxes, hashes(own, me, me, self.session.digest)))

    def acknowledge(self, invitation: bytes) -> None:
        """Open the boxes of an invitation, as `join` would, and keep nothing: return if all of them open.

        A device does so for one invitation a card, as often as that comes, and only before it masks.

        Raises:
            Malformed, Refused, Lost: the round is not one that the device shared its secrets for.
            BadlySealed: neighbours' boxes do not open to shares of their hashes.
            Repeated: it answered for another invitation, or masked a vector of this round.
        """
        seat = self._seat("shares")
        self._not_masked()
        step = digest("step", b"boxes", self.identity.public, self.session.digest, seat.card)
        self.journal.answer(step, digest("boxes", invitation))
        self._open(seat, invitation)

    def join(self, invitation: bytes, model: bytes, layers: bytes = b"") -> list[Mask]:
        """Return the masks for the device's vector, and forget the secrets that they were made of.

        `model` is the digest of the parameters that the device was offered, `layers` the seeds, secret, that those
        layers of its noise are made from which it may have to give up. A device that cannot
        help to open a neighbour's secrets takes no part, so that none is lost after it was paid for.

        Raises:
            Malformed, Refused, Lost: the round is not one that the device shared its secrets for.
            BadlySealed: neighbours' boxes do not open to shares of their hashes.
        """
        self._keep({self.session.round, self.session.round + 1})
        seat = self._seat("shares")
        view, bits, held, peers = self._open(seat, invitation)
        context = self.session.context(view.digest, bits, model)
        held[view.position] = Held(seat.held[:SHARE_BYTES], seat.held[SHARE_BYTES:])
        masks = masks_of(seat.secrets, view.cards[view.position], peers, self.session.digest, context)
        self._take_part()
        known = b"".join(held[member].own + held[member].mask for member in sorted(held))
        self._sit(
            Seat(
                seat.session,
                "masked",
                seat.card,
                seating=seat.seating,
                members=bits,
                held=known,
                context=context,
                layers=layers,
            )
        )
        return masks

    def vouch(self) -> bytes:
        """Return the device's signature of what it masked its vector for: members, their cards and the model.

        Empty in malicious-server mode, where survivors sign a list instead, and in a sparse graph.
        """
        seat = self._seat("masked")
        vouched = not self.plan.malicious and read_seating(seat.seating, self.session).graph.complete
        return vouch(self.identity, seat.context) if vouched else b""

    def consent(self, survivors: bytes) -> bytes:
        """Return the device's signature of the list of survivors: it signs one list a round, and that one again."""
        seat = self._seat("masked", "agreed")
        self._check_survivors(seat, survivors)
        self._answer("consent", digest("list", survivors))
        self._sit(replace(seat, stage="agreed", survivors=survivors))
        return consent(self.identity, seat.context, survivors)

    def unmask(self, survivors: bytes, signatures: bytes | None) -> tuple[bytes, bytes]:
        """Return one share for each member that the device knows of, and seeds of noise; forget the other shares.

        The share is one of the member's own mask if it survived, of its mask keys if it dropped out; never both. The
        seeds are those of the layers of the device's own noise that so many survivors do not need. A server that lost
        the answer may ask again: the same request gets the same answer, as long as the device remembers the round.

        Raises:
            Malformed, Refused, Lost: the list is not one by which the device may open anything.
            Repeated: the device has opened shares for another request.
        """
        seat = self._seat("agreed" if self.plan.malicious else "masked", "opened")
        asked = digest("opening", survivors, *([] if signatures is None else [signatures]))
        if seat.stage == "opened":
            if seat.asked != asked:
                raise Repeated
            return seat.held, seat.layers
        view, alive = self._check_survivors(seat, survivors)
        if self.plan.malicious:
            self._check_signatures(seat, view, alive, survivors, signatures)
        elif view.graph.complete:
            check_vouched(signatures or b"", view.cards, alive, seat.context)
        elif signatures is not None:
            raise Malformed("signatures without a list to sign")
        self._answer("unmask", asked)
        known = self._known(view, from_bits(seat.members, view.graph.devices))
        opened: list[bytes] = []
        for place, member in enumerate(known):
            start = 2 * SHARE_BYTES * place + (0 if member in alive else SHARE_BYTES)
            opened.append(seat.held[start : start + SHARE_BYTES])
        shares, layers = b"".join(opened), seat.layers[SEED_BYTES * self.mechanism.kept(len(alive)) :]
        self._sit(Seat(seat.session, "opened", seat.card, held=shares, layers=layers, asked=asked))
        return shares, layers

    def leave(self) -> None:
        """Forget the round."""
        self.state.pop(self._name, None)

    def _check_cohort(self, view: Seating, seat: Seat) -> None:
        if view.cards[view.position].to_bytes() != seat.card:
            raise Malformed("another card in the device's place")
        self._check_count(view.graph.devices)
        if not all(genuine(card, self.session.digest, self.roster) for card in view.cards.values()):
            raise Stranger

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
        """Refuse fewer devices than any sum of the plan opens over: those seated, in the round, left, or signing."""
        if count < self.session.least:
            raise Refused(f"{count} devices, a sum of this plan opens over {self.session.least} at least")

    def _check_signatures(
        self, seat: Seat, view: Seating, alive: frozenset[int], survivors: bytes, signatures: bytes | None
    ) -> None:
        signed = count_consents(signatures or b"", view.cards, alive, seat.context, survivors)
        self._check_count(signed)

    def _known(self, view: Seating, members: tuple[int, ...]) -> list[int]:
        """Return the members that the device holds shares of, itself among them."""
        return [member for member in members if member in view.cards]

    def _open(self, seat: Seat, invitation: bytes) -> tuple[Seating, bytes, dict[int, Held], list[Peer]]:
        """Return the seating, the members as bits, and what neighbours among them sealed for the device."""
        view = read_seating(seat.seating, self.session)
        size = -(-view.graph.devices // 8)
        bits, boxes = invitation[:size], invitation[size:]
        members = from_bits(bits, view.graph.devices)
        self._check_members(view, members)
        return view, bits, *self._unseal(view, seat.secrets, members, boxes)

    def _unseal(
        self, view: Seating, own: RoundSecrets, members: tuple[int, ...], boxes: bytes
    ) -> tuple[dict[int, Held], list[Peer]]:
        senders = tuple(member for member in self._known(view, members) if member != view.position)
        sizes = view.box_sizes(senders, self.session.hybrid)
        if len(boxes) != sum(sizes):
            raise Malformed("not a box of each neighbour")
        held, peers, bad = dict[int, Held](), list[Peer](), list[int]()
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
            raise BadlySealed(to_bits(bad, view.graph.devices))
        return held, peers

    @property
    def _name(self) -> str:
        return f"{SEAT}{self.session.round}"

    def _seat(self, *stages: str) -> Seat:
        record = self.state.config_records.get(self._name)
        if record is None or record["stage"] not in stages or record["session"] != self.session.digest:
            raise Lost
        return Seat(**{name: value for name, value in record.items()})  # pyright: ignore[reportArgumentType]

    def _sit(self, seat: Seat) -> None:
        self.state[self._name] = ConfigRecord({f.name: getattr(seat, f.name) for f in fields(seat)})

    def _keep(self, rounds: set[int]) -> None:
        """Forget all other rounds: no more than two are ever under way."""
        for name in [name for name in self.state if name.startswith(SEAT)]:
            if int(name.removeprefix(SEAT)) not in rounds:
                del self.state[name]

    def _once(self, step: str, card: bytes = b"") -> None:
        self.journal.first([digest("step", step.encode(), self.identity.public, self.session.digest, card)])

    def _answer(self, step: str, request: bytes) -> None:
        """Note a step that is done for one request alone, however often that comes."""
        self.journal.answer(digest("step", step.encode(), self.identity.public, self.session.digest), request)

    @property
    def _masking(self) -> bytes:
        """The step of masking: one a round and run, in whatever seating and under whatever plan."""
        return digest("masking", self.identity.public, self.session.run, self.session.round)

    def _not_masked(self) -> None:
        if self.journal.has(self._masking):
            raise Repeated

    def _take_part(self) -> None:
        """Note that the device makes masks for this round, once, and that it is one more round of the plan."""
        self.journal.first([self._masking])
        places = range(1, self.plan.participations + 1)
        try:
            self.journal.first(digest("part", self.session.plan, place) for place in places)
        except Repeated:
            raise BudgetSpent from None
