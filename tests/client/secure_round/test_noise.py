"""A server that tells devices of one round different things: their masks do not cancel and the sum is noise.

The server here is stronger than any: it knows every device's own mask, and takes it off with the context that the
device itself used. What is left must be noise still. Noise is told by its bits: of the 64 bits of 11 words or more
half must be set, to within five standard deviations. Each such check raises a false alarm with probability 6e-7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from devices import said_code
from secure_devices import make_lab, words_of

from bract.privacy.messages import KEYS, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.keys import contribution, make_card, own_key, read_card
from bract.privacy.secagg.masking import Peer, pair_masks
from bract.privacy.secagg.masks import Mask, add_masks
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.server_view import Code

EXCHANGES = ["x25519", "hybrid"]


def is_noise(words: np.ndarray) -> bool:
    bits = 64 * len(words)
    assert bits >= 11 * 64
    return abs(int(np.bitwise_count(words).sum()) - bits / 2) < 5 * np.sqrt(bits) / 2


def peeled(
    server: Any,
    secrets: Any,
    words: Mapping[int, np.ndarray],
    contexts: Mapping[int, bytes],
    colluders: Mapping[int, Iterable[int]] = MappingProxyType({}),
) -> np.ndarray:
    """What the sum of these words differs by from the true sum, once every device's own mask is off.

    Off are also the masks that a device shares with these colluders.
    """
    total = np.sum(list(words.values()), axis=0, dtype=np.uint64)
    session, hybrid = server.session.digest, server.session.hybrid
    for p in words:
        identity = server.members[p].identity
        masks = [Mask(own_key(secrets[p].own, identity.public, contexts[p]), -1)]
        for colluder in colluders.get(p, ()):
            cards = {at: make_card(secrets[at], server.members[at].identity, session, hybrid) for at in (p, colluder)}
            given = contribution(secrets[p].mask, session, cards[colluder].identity) if hybrid else b""
            masks += pair_masks(
                secrets[colluder].mask, cards[colluder], [Peer(cards[p], given)], session, contexts[p]
            )
        add_masks(total, masks)
    return total - server.mechanism.grid.ring.encode(server.true(words))


def digest_of(parameters: np.ndarray) -> bytes:
    return hashlib.sha256(parameters.astype("<f4").tobytes()).digest()


def groups(of: Iterable[int]) -> list[list[int]]:
    """All that a server could add up: everyone, each half, and each device alone."""
    everyone = list(of)
    return [everyone, everyone[:2], everyone[2:], *([p] for p in everyone)]


@pytest.mark.parametrize("exchange", EXCHANGES)
class TestOneRound:
    def test_without_a_lie_leaves_nothing_to_who_knows_own_masks(self, overheard: list[Any], exchange: str) -> None:
        """Or the tests below would find noise wherever they look."""
        server = make_lab(5, aggregation={"protocol": "secagg", "key_exchange": exchange})
        sent = server.until("masked")
        contexts = dict.fromkeys(range(5), server.cohort.context(server.model))
        assert not peeled(server, overheard, sent, contexts).any()

    def test_of_two_models_decodes_to_noise_and_nobody_opens_it(self, overheard: list[Any], exchange: str) -> None:
        server = make_lab(5, aggregation={"protocol": "secagg", "key_exchange": exchange, "bits": 64})
        server.until("shares")
        other = server.parameters.copy()
        other[0] = np.nextafter(other[0], np.float32(1))
        sent, contexts = {}, {}
        for p in range(5):
            parameters = other if p < 2 else server.parameters
            sent[p] = words_of(server.tell(p, TRAIN, parameters=parameters, cohort=server.invitation(p)))
            contexts[p] = server.cohort.context(digest_of(parameters))
        for group in groups(sent):
            assert is_noise(peeled(server, overheard, {p: sent[p] for p in group}, contexts))
        bits, signed = server.bits(range(5)), server.context_signatures(range(5))
        assert all(said_code(server.tell(p, UNMASK, survivors=bits, **signed)) is Code.MALFORMED for p in range(5))

    def test_of_two_sets_of_members_decodes_to_noise(self, overheard: list[Any], exchange: str) -> None:
        """The last device works with the server; half of the others are told that it is in the round."""
        server = make_lab(6, aggregation={"protocol": "secagg", "key_exchange": exchange})
        server.until("shares")
        full, fewer = server.cohort, SeatedCohort(server.session, server.cohort.cards, dict(server.cohort.boxes))
        del fewer.boxes[5]
        sent, contexts = {}, {}
        for p in range(5):
            cohort = fewer if p < 2 else full
            sent[p] = words_of(server.tell(p, TRAIN, cohort=cohort.invitation(p)))
            contexts[p] = cohort.context(server.model)
        colluders = {p: [5] for p in (2, 3, 4)}
        for group in groups(sent):
            assert is_noise(peeled(server, overheard, {p: sent[p] for p in group}, contexts, colluders))

    def test_with_a_colluder_is_open_to_who_knows_all_own_masks(self, overheard: list[Any], exchange: str) -> None:
        """Or the two tests beside this one would find noise wherever they look."""
        server = make_lab(6, aggregation={"protocol": "secagg", "key_exchange": exchange})
        server.until("shares")
        sent = server.train(range(5))
        contexts = dict.fromkeys(range(5), server.cohort.context(server.model))
        assert not peeled(server, overheard, sent, contexts, {p: [5] for p in range(5)}).any()
        assert is_noise(peeled(server, overheard, sent, contexts))

    def test_of_two_cohorts_decodes_to_noise(self, overheard: list[Any], exchange: str) -> None:
        """Positions 0 to 3 are in both; half of them are told that 4 is the last, half that 5 is: two colluders."""
        server = make_lab(6, cohort={"size": 5}, aggregation={"protocol": "secagg", "key_exchange": exchange})
        cards = [read_card(server.section(server.tell(p, KEYS), "card"), exchange == "hybrid") for p in range(6)]
        one, other = (SeatedCohort(server.session, (*cards[:4], last)) for last in cards[4:])
        views = {0: one, 1: one, 2: other, 3: other, 4: one, 5: other}
        for p, cohort in views.items():
            place = min(p, 4)
            sealed = server.section(server.tell(p, SHARES, cards=cohort.seating(place).to_bytes()), "sealed")
            for known in (one, other) if p < 4 else (cohort,):
                known.boxes[place] = sealed
        sent = {p: words_of(server.tell(p, TRAIN, cohort=views[p].invitation(p))) for p in range(4)}
        contexts = {p: cohort.context(server.model) for p, cohort in views.items()}
        colluders = {0: [4], 1: [4], 2: [5], 3: [5]}
        for group in groups(sent):
            assert is_noise(peeled(server, overheard, {p: sent[p] for p in group}, contexts, colluders))


def test_a_vector_goes_out_under_other_masks_in_every_round() -> None:
    server = make_lab(3)
    rounds: list[dict[int, np.ndarray]] = []
    for number in (1, 2, 3):
        server.keys(number)
        server.shares()
        rounds.append(server.train())
    for one, other in ((0, 1), (0, 2), (1, 2)):
        for p in range(3):
            assert is_noise(rounds[one][p] - rounds[other][p])


def test_a_masked_vector_is_noise_whatever_it_hides() -> None:
    for value in (0, 1, -1):
        server = make_lab(3)
        for member in server.members:
            member.vector[:] = value
        assert all(is_noise(sent) for sent in server.until("masked").values())


def test_a_device_cannot_be_told_of_another_model_than_it_trains() -> None:
    """The digest that its masks are bound to is of what it was sent, and no message gives another."""
    server = make_lab(3)
    server.until("shares")
    reply = server.tell(0, TRAIN, cohort=server.invitation(0), model=bytes(32))
    assert said_code(reply) is Code.MALFORMED
