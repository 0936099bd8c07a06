"""Our side of `secagg.py`: a cohort of devices and their server, prepared for the steps that are timed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from bract.client.disk.step_journal import MemoryJournal
from bract.client.mask import mask
from bract.client.secure_round import SEAT, SecureRound
from bract.privacy import Contribution, Mechanism, Plan, make_plan, mechanism_of
from bract.privacy.encoding.quantization import quantize
from bract.privacy.secagg import unmask as unmasking
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import pack_consents
from bract.privacy.secagg.identity import SIGNATURE_BYTES, new_identity, roster_of
from bract.privacy.secagg.keys import Keypair, RoundSecrets, card_bytes, read_card
from bract.privacy.secagg.masking import Peer, masks_of
from bract.privacy.secagg.masks import Mask, add_masks
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.session import make_session
from bract.privacy.server_view import read_update

ROUND = 1


def make(devices: int) -> Mechanism:
    """Return the mechanism of a masked sum in a ring of 16 bits. More than half of the devices open a secret."""
    plan = make_plan(
        {
            "data": {"clients": devices},
            "training": {"batch_size": 8},
            "cohort": {"rounds": 1, "size": devices},
            "privacy": {"noise": "local"},
            "aggregation": {"protocol": "secagg", "bits": 16, "colluders": 0.0},
        },
        Plan,
    )
    return mechanism_of(plan)


class Forgetful(MemoryJournal):
    """A journal that records nothing, so that a device can repeat its steps."""

    def first(self, steps: Iterable[bytes]) -> None:
        """Record nothing."""

    def answer(self, step: bytes, request: bytes) -> None:
        """Note nothing."""


class Bract:
    """Devices that have shared their keys, and their server, which has their boxes and later their shares."""

    def __init__(self, devices: int, update: NDArray[np.float32]) -> None:
        self.mechanism, self.update = make(devices), update
        self.parameters = np.zeros(len(update), dtype=np.float32)
        self.model = hashlib.sha256(self.parameters.tobytes()).digest()
        self.rounds = self._rounds(devices)
        cards = tuple(read_card(device.keys(), hybrid=False) for device in self.rounds)
        self.cohort = SeatedCohort(self.rounds[0].session, cards)
        for position, device in enumerate(self.rounds):
            self.cohort.boxes[position] = device.shares(self.cohort.seating(position).to_bytes())
        self.seats = [device.state[f"{SEAT}{ROUND}"] for device in self.rounds]
        self.invitations = [self.cohort.invitation(position) for position in range(devices)]
        self.total = np.zeros(self.mechanism.grid.ring.words(len(update)), dtype=np.uint64)
        self.sent = self.client_step()

    def _rounds(self, devices: int) -> list[SecureRound]:
        identities = sorted((new_identity() for _ in range(devices)), key=lambda identity: identity.public)
        roster, session = roster_of(identities), make_session(self.mechanism.plan, run=1, round=ROUND)
        return [SecureRound(session, self.mechanism, who, roster, Forgetful(), RecordDict()) for who in identities]

    def client_step(self) -> bytes:
        """Return the first device's masked vector as sent: agree on keys, quantise, encode, mask."""
        seat, session = self.seats[0], self.cohort.session
        own = RoundSecrets(Keypair(seat["mask"]), seat["own"], Keypair(seat["channel"]))
        peers = [Peer(card) for card in self.cohort.cards[1:]]
        return self._vector(
            masks_of(own, self.cohort.cards[0], peers, session.digest, self.cohort.context(self.model))
        )

    def client_message(self, position: int = 0) -> bytes:
        """Return any device's masked vector by its whole step: also digest the model and open the boxes."""
        return self._vector(self.join(position))

    def join(self, position: int) -> list[Mask]:
        """Return the masks of a device that joins the round, as if for the first time."""
        device = self.rounds[position]
        device.state[f"{SEAT}{ROUND}"] = self.seats[position]
        return device.join(self.invitations[position], hashlib.sha256(self.parameters.tobytes()).digest())

    def _vector(self, masks: list[Mask]) -> bytes:
        return mask(self._contribution(), self.mechanism, masks).vector.tobytes()

    def _contribution(self) -> Contribution:
        return Contribution(quantize(self.update, self.mechanism.grid.step, self.mechanism.grid.bound))

    def opened(self, survivors: list[int]) -> dict[int, bytes]:
        """Return the shares that these survivors open, after all devices have joined."""
        for position in range(len(self.rounds)):
            self.join(position)
        bits = to_bits(survivors, len(self.rounds))
        signed = pack_consents({position: self.rounds[position].sign_context() for position in survivors})
        return {position: self.rounds[position].unmask(bits, signed)[0] for position in survivors}

    def prepare_server(self) -> None:
        """Collect the opened shares that the server's steps need."""
        everyone = list(range(len(self.rounds)))
        self.all_opened, self.most_opened = self.opened(everyone), self.opened(everyone[1:])

    def fold(self, data: bytes) -> None:
        """Add one masked vector, as it arrived, to the sum."""
        words = len(self.total)
        self.total += read_update("uint64", (words,), "bract.raw", data, words)

    def survivors(self) -> None:
        """Do the server's whole work in a round without dropouts: one survivor's work for each device."""
        for _ in self.rounds:
            self.fold(self.sent)
        unmasking.unmask(self.total, self.cohort, self.all_opened, range(len(self.rounds)), self.model)

    def dropout(self) -> None:
        """Do the server's work for the first device, which dropped out."""
        cohort, alive = self.cohort, set(range(1, len(self.rounds)))
        card, opening = cohort.cards[0], unmasking.Reconstruction(cohort, self.most_opened)
        secret = opening.secret(0, "mask", lambda secret: unmasking._is_mask(secret, card))
        masks = unmasking._masks_of_dropout(cohort, 0, Keypair(secret), alive, cohort.context(self.model))
        add_masks(self.total, masks)

    def check(self) -> None:
        """Sum a whole round in which the first device drops out.

        Raises:
            ValueError: the sum is not exact.
        """
        alive = list(range(1, len(self.rounds)))
        opened = self.opened(alive)
        self.total[:] = 0
        for position in alive:
            self.fold(self.client_message(position))
        unmasking.unmask(self.total, self.cohort, opened, alive, self.model)
        plain = self._contribution().vector * len(alive)
        if self.client_step() != self.client_message():
            raise ValueError("the client's two ways differ")
        if not np.array_equal(self.mechanism.grid.ring.decode(self.total, len(plain)), plain):
            raise ValueError("our sum is not exact")

    def upload(self) -> int:
        """Return the number of bytes that a device sends in a round: words, card, boxes, shares and a signature."""
        parts = [self.sent, self.cohort.boxes[0], self.all_opened[0]]
        return sum(map(len, parts)) + card_bytes(hybrid=False) + SIGNATURE_BYTES
