"""bract goes through whole rounds just as the test vectors say, on the device's side and on the server's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bract.privacy.encoding.ring import Ring
from bract.privacy.plan.thresholds import most_colluders
from bract.privacy.secagg.bitset import from_bits
from bract.privacy.secagg.consent import (
    check_context_signatures,
    consent,
    count_consents,
    pack_consents,
    sign_context,
)
from bract.privacy.secagg.identity import Identity, roster_of
from bract.privacy.secagg.keys import (
    Keypair,
    PublicKeys,
    RoundSecrets,
    channel_key,
    contribution,
    genuine,
    make_card,
    own_key,
    pair_key,
    read_card,
    usable,
)
from bract.privacy.secagg.masking import Peer, masks_of
from bract.privacy.secagg.masks import add_masks
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.session import Session
from bract.privacy.secagg.shares import BoxContent, SecretShares, hashes, seal, split_secrets, unseal
from bract.privacy.secagg.unmask import unmask

PATH = Path(__file__).parents[2] / "vectors" / "secagg.json"
ROUNDS: list[dict[str, Any]] = json.loads(PATH.read_text())["rounds"]
of = bytes.fromhex


def words_of(text: str) -> np.ndarray:
    return np.frombuffer(of(text), dtype="<u8").astype(np.uint64)


class Vectors:
    """A round of the file, with what bract makes of its secrets."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case, self.hybrid = case, case["hybrid"]
        count = len(case["cards"])
        numbers = case["run"], case["round"], of(case["plan"]), self.hybrid
        self.session = Session(*numbers, count, most_colluders(count, 1 / 3), 0.3, case["threshold"])
        secrets = [{name: of(text) for name, text in one.items()} for one in case["secrets"]]
        self.secrets = [RoundSecrets(Keypair(s["mask"]), s["own"], Keypair(s["channel"])) for s in secrets]
        self.identities = [Identity(Ed25519PrivateKey.from_private_bytes(s["identity"])) for s in secrets]
        self.cards = [read_card(of(card), self.hybrid) for card in case["cards"]]
        self.everyone = range(len(self.cards))
        self.boxes = {(i, b["to"]): of(b["box"]) for i in self.everyone for b in case["sealed"][i]}
        kept = [of(text) for text in case["kept_hashes"]]
        sealed = {i: b"".join(of(b["box"]) for b in case["sealed"][i]) + kept[i] for i in self.everyone}
        self.cohort = SeatedCohort(self.session, tuple(self.cards), sealed)
        self.survivors = from_bits(of(case["survivors"]), len(self.cards))

    def held(self, owner: int, monkeypatch: pytest.MonkeyPatch) -> list[SecretShares]:
        """What each device is to hold of the owner's secrets, with the coefficients of the vectors."""
        drawn = self.case["coefficients"][owner]
        queue = iter([int(c, 16) for use in ("own", "mask") for c in reversed(drawn[use])])
        monkeypatch.setattr("bract.privacy.secagg.shamir.secrets.randbelow", lambda limit: next(queue))
        return split_secrets(self.secrets[owner], self.cohort.graph.threshold, self.everyone)

    def parcel(self, sender: int, receiver: int) -> BoxContent:
        cards, box = self.cards, self.boxes[sender, receiver]
        return unseal(self.secrets[receiver], cards[sender], cards[receiver], box, self.session.digest)


@pytest.fixture(scope="module", params=ROUNDS, ids=lambda case: "hybrid" if case["hybrid"] else "x25519")
def vectors(request: pytest.FixtureRequest) -> Vectors:
    return Vectors(request.param)


def test_session_graph_and_digest_of_the_cards(vectors: Vectors) -> None:
    assert vectors.session.digest.hex() == vectors.case["session"]
    assert vectors.cohort.graph.threshold == vectors.case["threshold"]
    assert vectors.cohort.digest.hex() == vectors.case["cards_digest"]


def test_cards_and_their_signatures(vectors: Vectors) -> None:
    roster = roster_of(vectors.identities)
    for own, identity, card in zip(vectors.secrets, vectors.identities, vectors.cards, strict=True):
        assert make_card(own, identity, vectors.session.digest, vectors.hybrid) == card
        assert genuine(card, vectors.session.digest, roster)
        assert usable(card)


def test_seating(vectors: Vectors) -> None:
    assert vectors.cohort.seating(0).to_bytes().hex() == vectors.case["seating_0"]


def test_channel_key(vectors: Vectors) -> None:
    one, two = vectors.cards[:2]
    kem, session = of(vectors.case["channel_kem_0_1"]), vectors.session.digest
    key = channel_key(vectors.secrets[0].channel, two.channel, one, two, session, kem)
    assert key.hex() == vectors.case["channel_key_0_1"]
    if vectors.hybrid:
        assert vectors.secrets[1].channel.decapsulate(vectors.boxes[0, 1][:1088]) == kem


def test_boxes_as_their_senders_seal_them(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the KEM draws at random is taken from the box itself, by the keys that it is for."""
    for sender in vectors.everyone:
        held = vectors.held(sender, monkeypatch)
        for receiver in vectors.everyone:
            if receiver == sender:
                continue
            box, theirs = vectors.boxes[sender, receiver], vectors.secrets[receiver]
            if vectors.hybrid:
                carried = ((theirs.channel, box[:1088]), (theirs.mask, box[1088:2176]))
                drawn = ((keys.decapsulate(text), text) for keys, text in carried)
                monkeypatch.setattr(PublicKeys, "encapsulate", lambda self, drawn=drawn: next(drawn))
            cards, session = vectors.cards, vectors.session.digest
            assert seal(vectors.secrets[sender], cards[sender], cards[receiver], held[receiver], session) == box


def test_hashes_of_the_shares_that_devices_keep(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    for p, card in enumerate(vectors.cards):
        kept = hashes(vectors.held(p, monkeypatch)[p], card, card, vectors.session.digest)
        assert kept.hex() == vectors.case["kept_hashes"][p]


def test_boxes_as_their_receivers_open_them(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    for sender, receiver in vectors.boxes:
        parcel = vectors.parcel(sender, receiver)
        assert parcel.held == vectors.held(sender, monkeypatch)[receiver]
        upward = vectors.hybrid and sender < receiver
        identity = vectors.cards[receiver].identity
        given = contribution(vectors.secrets[sender].mask, vectors.session.digest, identity) if upward else b""
        assert parcel.contribution == given


def test_invitation_and_context(vectors: Vectors) -> None:
    assert vectors.cohort.invitation(0).hex() == vectors.case["invitation_0"]
    assert vectors.cohort.context(of(vectors.case["model"])).hex() == vectors.case["context"]


def test_own_and_pair_key(vectors: Vectors) -> None:
    context, session = of(vectors.case["context"]), vectors.session.digest
    (own, low), high = (vectors.secrets[0], vectors.cards[0].identity), vectors.cards[1].identity
    assert own_key(own.own, low, context).hex() == vectors.case["own_key_0"]
    given = contribution(own.mask, session, high) if vectors.hybrid else b""
    key = pair_key(own.mask, vectors.cards[1].mask, low, high, context, given)
    assert key.hex() == vectors.case["pair_key_0_1"]


def test_masked_vectors(vectors: Vectors) -> None:
    ring, context = Ring(vectors.case["bits"]), of(vectors.case["context"])
    assert sorted(map(int, vectors.case["masked"])) == list(vectors.survivors)
    for p in vectors.survivors:
        peers = [Peer(vectors.cards[q], vectors.parcel(q, p).contribution) for q in vectors.everyone if q != p]
        words = ring.encode(np.array(vectors.case["vectors"][str(p)], dtype=np.int64))
        add_masks(words, masks_of(vectors.secrets[p], vectors.cards[p], peers, vectors.session.digest, context))
        assert words.astype("<u8").tobytes().hex() == vectors.case["masked"][str(p)]


def test_consents(vectors: Vectors) -> None:
    context, survivors = of(vectors.case["context"]), of(vectors.case["survivors"])
    signed = {p: consent(vectors.identities[p], context, survivors) for p in vectors.survivors}
    assert pack_consents(signed).hex() == vectors.case["consent"]
    cards = dict(enumerate(vectors.cards))
    assert count_consents(of(vectors.case["consent"]), cards, signed, context, survivors) == len(signed)


def test_signatures_of_what_was_masked_for(vectors: Vectors) -> None:
    context = of(vectors.case["context"])
    signed = {p: sign_context(vectors.identities[p], context) for p in vectors.survivors}
    assert pack_consents(signed).hex() == vectors.case["vouched"]
    check_context_signatures(of(vectors.case["vouched"]), dict(enumerate(vectors.cards)), vectors.survivors, context)


def test_the_masks_come_off_the_sum(vectors: Vectors) -> None:
    case, ring = vectors.case, Ring(vectors.case["bits"])
    total = np.sum([words_of(text) for text in case["masked"].values()], axis=0, dtype=np.uint64)
    assert total.astype("<u8").tobytes().hex() == case["sum_masked"]
    opened = {int(p): of(text) for p, text in case["opened"].items()}
    unmask(total, vectors.cohort, opened, vectors.survivors, of(case["model"]))
    assert ring.decode(total, len(case["sum"])).tolist() == case["sum"]
    assert case["sum"] == np.sum(list(case["vectors"].values()), axis=0).tolist()


def test_someone_dropped_out_after_it_had_shared_its_keys() -> None:
    assert [len(r["cards"]) - len(r["masked"]) for r in ROUNDS] == [1, 1]
    assert [len(r["cards"]) for r in ROUNDS] == [5, 3]
