"""A round of secure aggregation in one process: its devices, its server, and who drops out when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from bract.privacy.encoding.ring import Ring
from bract.privacy.plan.thresholds import least_in_sum, most_colluders
from bract.privacy.secagg.graph import Graph
from bract.privacy.secagg.identity import Identity, new_identity
from bract.privacy.secagg.keys import RoundSecrets, make_card, new_secrets
from bract.privacy.secagg.masking import Peer, masks_of
from bract.privacy.secagg.masks import add_masks
from bract.privacy.secagg.seating import SeatedCohort, read_seating
from bract.privacy.secagg.session import Session
from bract.privacy.secagg.shares import SecretShares, hashes, seal, split_secrets, unseal
from bract.privacy.secagg.unmask import unmask


@dataclass
class Party:
    """Devices with their cards of one round, in the order of their identities."""

    session: Session
    identities: Sequence[Identity]
    secrets: Sequence[RoundSecrets]
    cohort: SeatedCohort

    def share(self, position: int) -> SecretShares:
        """Let a device share its keys; return what it holds of its own."""
        session, cards = self.session, self.cohort.cards
        view = read_seating(self.cohort.seating(position).to_bytes(), session)
        held = dict(
            zip(view.cards, split_secrets(self.secrets[position], view.graph.threshold, [*view.cards]), strict=True)
        )
        boxes = [
            seal(self.secrets[position], cards[position], cards[other], held[other], session.digest)
            for other in view.neighbours
        ]
        kept = hashes(held[position], cards[position], cards[position], session.digest)
        self.cohort.boxes[position] = b"".join((*boxes, kept))
        return held[position]


@dataclass
class Walk:
    """A round up to the point where the server takes the masks off; `plain` is the sum that it is to find."""

    party: Party
    ring: Ring
    total: np.ndarray
    plain: np.ndarray
    survivors: list[int] = field(default_factory=list)
    opened: dict[int, bytes] = field(default_factory=dict)
    sent: dict[int, np.ndarray] = field(default_factory=dict)
    model: bytes = bytes(32)

    @property
    def cohort(self) -> SeatedCohort:
        return self.party.cohort

    def unmask(self) -> np.ndarray:
        """Take the masks off, and return the decoded sum."""
        unmask(self.total, self.cohort, self.opened, self.survivors, self.model)
        return self.ring.decode(self.total, len(self.plain))


def make_party(
    devices: int,
    hybrid: bool = False,
    colluders: float = 1 / 3,
    dropouts: float = 0.3,
    sparse: tuple[int, int] | None = None,
) -> Party:
    """Devices that are all neighbours, or have so many and a threshold: `sparse`."""
    bad = most_colluders(devices, colluders)
    graph = None if sparse is None else Graph(devices, *sparse)
    session = Session(5, 1, bytes(range(32)), hybrid, devices, bad, dropouts, least_in_sum(devices, bad), graph)
    identities = sorted((new_identity() for _ in range(devices)), key=lambda identity: identity.public)
    secrets = [new_secrets() for _ in identities]
    cards = [make_card(s, i, session.digest, hybrid) for s, i in zip(secrets, identities, strict=True)]
    return Party(session, identities, secrets, SeatedCohort(session, tuple(cards)))


def take_walk(
    party: Party,
    length: int = 10,
    bits: int = 16,
    lost: tuple[int, int, int] = (0, 0, 0),
    seed: int = 0,
    misled: Sequence[int] = (),
) -> Walk:
    """Walk through a round in which so many devices drop out before they share their keys, before they upload, and
    before they open their shares; the seed chooses them. Those `misled` are told of another model.
    """
    cohort, session, ring = party.cohort, party.session, Ring(bits)
    rng, count = np.random.default_rng(seed), len(party.cohort.cards)
    walk = Walk(party, ring, np.zeros(ring.words(length), dtype=np.uint64), np.zeros(length, dtype=np.int64))
    silent, late, gone = np.split(rng.permutation(count)[: sum(lost)], np.cumsum(lost)[:2])
    held = {p: {p: party.share(p)} for p in range(count) if p not in silent}
    bound = ring.bound(count)
    for p in held:
        me, peers = cohort.cards[p], []
        for other in cohort.among(p):
            if other != p:
                box = cohort.box(other, p)
                parcel = unseal(party.secrets[p], cohort.cards[other], me, box, session.digest)
                held[p][other] = parcel.held
                peers.append(Peer(cohort.cards[other], parcel.contribution))
        if p in late:
            continue
        model = bytes([1]) * 32 if p in misled else walk.model
        vector = rng.integers(-bound, bound + 1, length)
        words = ring.encode(vector)
        add_masks(words, masks_of(party.secrets[p], me, peers, session.digest, cohort.context(model)))
        walk.total += words
        walk.sent[p] = words
        walk.plain += vector
        walk.survivors.append(p)
    for p in walk.survivors:
        if p not in gone:
            kinds = (held[p][q].own if q in walk.survivors else held[p][q].mask for q in cohort.among(p))
            walk.opened[p] = b"".join(kinds)
    return walk


@pytest.fixture(scope="session")
def party() -> Callable[..., Party]:
    return make_party


@pytest.fixture(scope="session")
def walk() -> Callable[..., Walk]:
    return take_walk


def prints(thing: Any, hidden: Sequence[bytes]) -> bool:
    """Whether what a thing prints holds eight or more bytes of a secret, as Python writes bytes or in hexadecimal."""
    text = f"{thing!r} {thing!s}"
    parts = [secret[at : at + 8] for secret in hidden for at in range(0, len(secret) - 7, 8)]
    return any(repr(part)[2:-1] in text or part.hex() in text for part in parts)


@pytest.fixture(scope="session")
def holds_secret() -> Callable[[Any, Sequence[bytes]], bool]:
    return prints
