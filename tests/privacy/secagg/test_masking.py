"""Masks of a device: its own, and one for each peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bract.privacy.secagg.keys import contribution, own_key
from bract.privacy.secagg.masking import Peer, masks_of, pair_masks
from bract.privacy.secagg.masks import Mask, add_masks

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("hybrid", [False, True])
CONTEXT = b"\x07" * 32


@pytest.fixture(scope="module")
def parties(party: Make) -> dict[bool, Any]:
    return {hybrid: party(4, hybrid) for hybrid in (False, True)}


def peers(party: Any, position: int) -> list[Peer]:
    """The others as a device knows them once it has opened their boxes."""
    cards, session = party.cohort.cards, party.session
    mine = cards[position].identity
    given = [
        contribution(party.secrets[p].mask, session.digest, mine) if session.hybrid and p < position else b""
        for p in range(len(cards))
    ]
    return [Peer(cards[p], given[p]) for p in range(len(cards)) if p != position]


def masks(party: Any, position: int, context: bytes = CONTEXT) -> list[tuple[bytes, int]]:
    own, card = party.secrets[position], party.cohort.cards[position]
    return masks_of(own, card, peers(party, position), party.session.digest, context)


@BOTH
def test_a_device_has_one_mask_of_its_own_and_one_for_each_peer(parties: Any, hybrid: bool) -> None:
    party = parties[hybrid]
    made = masks(party, 2)
    assert made[0] == Mask(own_key(party.secrets[2].own, party.cohort.cards[2].identity, CONTEXT))
    assert [mask.sign for mask in made[1:]] == [-1, -1, 1]
    assert len({mask.key for mask in made}) == 4


@BOTH
def test_two_devices_have_the_same_mask_with_opposite_signs(parties: Any, hybrid: bool) -> None:
    party = parties[hybrid]
    made = [masks(party, p)[1:] for p in range(4)]
    for low in range(4):
        for high in range(low + 1, 4):
            one, other = made[low][high - 1], made[high][low]
            assert one.key == other.key
            assert (one.sign, other.sign) == (1, -1)


@BOTH
def test_no_two_pairs_share_a_mask(parties: Any, hybrid: bool) -> None:
    keys = [mask.key for p in range(4) for mask in masks(parties[hybrid], p)]
    assert len(set(keys)) == 4 + 6


@BOTH
def test_in_a_sum_of_all_only_the_own_masks_stay(parties: Any, hybrid: bool) -> None:
    total, own = np.zeros(50, dtype=np.uint64), np.zeros(50, dtype=np.uint64)
    for position in range(4):
        made = masks(parties[hybrid], position)
        add_masks(total, made)
        add_masks(own, made[:1])
    assert np.array_equal(total, own)
    assert own.any()


@BOTH
def test_another_context_or_session_gives_other_masks_throughout(parties: Any, hybrid: bool) -> None:
    party = parties[hybrid]
    one, other = masks(party, 1), masks(party, 1, b"\x08" * 32)
    assert not {mask.key for mask in one} & {mask.key for mask in other}
    if hybrid:
        card = party.cohort.cards[0]
        here, there = (
            pair_masks(party.secrets[0].mask, card, peers(party, 0), session, CONTEXT)
            for session in (party.session.digest, bytes(32))
        )
        assert not set(here) & set(there)


def test_a_hybrid_mask_takes_the_lower_devices_contribution(parties: Any) -> None:
    """X25519 alone does not give it: it takes the KEM too."""
    party = parties[True]
    good = peers(party, 3)[0]
    card, mask = party.cohort.cards[3], party.secrets[3].mask
    keys = {
        pair_masks(mask, card, [peer], party.session.digest, CONTEXT)[0].key
        for peer in (good, replace(good, contribution=b""), replace(good, contribution=bytes(32)))
    }
    assert len(keys) == 3
    assert masks(party, 3)[1].key in keys


def test_a_peer_prints_no_contribution(parties: Any, holds_secret: Callable[[Any, list[bytes]], bool]) -> None:
    peer = peers(parties[True], 3)[0]
    assert len(peer.contribution) == 32
    assert not holds_secret([peer], [peer.contribution])
