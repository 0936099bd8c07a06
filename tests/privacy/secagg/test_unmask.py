"""The sum without its masks, whoever drops out or opens wrong shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from secrets import token_bytes
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.privacy.plan.thresholds import most_colluders
from bract.privacy.secagg.graph import choose_graph
from bract.privacy.secagg.shamir import SHARE_BYTES, combine
from bract.privacy.secagg.shares import SecretShares, hashes, seal
from bract.privacy.secagg.unmask import TooFewShares

Make = Callable[..., Any]
NO_SHARE = b"\xff" * SHARE_BYTES

WIDTHS, LENGTHS, SEEDS = st.sampled_from([12, 16, 21, 32, 64]), st.integers(1, 300), st.integers(0, 2**32 - 1)


def examples(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def losses(draw: st.DrawFn, invited: int, beyond: bool = False) -> tuple[int, tuple[int, int, int]]:
    """How many devices show a card, and how many drop out before they share, upload and open: as many as a round
    outlasts at most, or `beyond` that.
    """
    cards = invited - draw(st.integers(0, (invited - 2) // 3))
    threshold = choose_graph(cards, most_colluders(cards, 1 / 3), 0.3).threshold
    spare = cards - threshold
    gone = draw(st.integers(spare + 1, cards - 1) if beyond else st.integers(0, spare))
    first = draw(st.integers(0, gone))
    second = draw(st.integers(0, gone - first))
    return cards, (first, second, gone - first - second)


def check_exact(party: Make, walk: Make, hybrid: bool, lost: Any, bits: int, length: int, seed: int) -> None:
    cards, stages = lost
    done = walk(party(cards, hybrid), length, bits, stages, seed)
    assert len(done.survivors) == cards - stages[0] - stages[1]
    assert not np.array_equal(done.total, done.ring.encode(done.plain))  # false alarm: 2^-64
    assert done.unmask().tolist() == done.plain.tolist()
    assert np.array_equal(done.total, done.ring.encode(done.plain))


def check_masked(party: Make, walk: Make, hybrid: bool, lost: Any, bits: int, length: int, seed: int) -> None:
    cards, stages = lost
    done = walk(party(cards, hybrid), length, bits, stages, seed)
    before = done.total.copy()
    with pytest.raises(TooFewShares):
        done.unmask()
    assert np.array_equal(done.total, before)
    if done.survivors:
        assert not np.array_equal(done.total, done.ring.encode(done.plain))  # false alarm: 2^-64


SIZES = [(2, False, 20), (3, False, 40), (5, False, 60), (20, False, 15), (2, True, 8), (3, True, 15), (5, True, 20)]


@pytest.mark.parametrize(("invited", "hybrid", "count"), [*SIZES, (100, False, 4), (20, True, 3)])
def test_the_sum_is_exact_whoever_drops_out_at_whatever_stage(
    party: Make, walk: Make, invited: int, hybrid: bool, count: int
) -> None:
    @examples(count)
    @given(losses(invited), WIDTHS, LENGTHS, SEEDS)
    def check(lost: Any, bits: int, length: int, seed: int) -> None:
        check_exact(party, walk, hybrid, lost, bits, length, seed)

    check()


@pytest.mark.parametrize(("invited", "hybrid", "count"), [*SIZES, (100, False, 2), (20, True, 2)])
def test_with_one_dropout_too_many_the_sum_stays_as_it_was(
    party: Make, walk: Make, invited: int, hybrid: bool, count: int
) -> None:
    @examples(count)
    @given(losses(invited, beyond=True), WIDTHS, LENGTHS, SEEDS)
    def check(lost: Any, bits: int, length: int, seed: int) -> None:
        check_masked(party, walk, hybrid, lost, bits, length, seed)

    check()


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize(("devices", "hybrid"), [(3, False), (5, True), (20, False), (100, False)])
def test_a_round_outlasts_as_many_dropouts_as_it_should(
    party: Make, walk: Make, devices: int, hybrid: bool, stage: int
) -> None:
    """Just as many, at each stage."""
    spare = devices - choose_graph(devices, most_colluders(devices, 1 / 3), 0.3).threshold
    for gone, check in ((spare, check_exact), (spare + 1, check_masked)):
        stages = [0, 0, 0]
        stages[stage] = gone
        check(party, walk, hybrid, (devices, tuple(stages)), 12, 11, 7)


@pytest.mark.parametrize(("devices", "degree", "threshold"), [(30, 12, 7), (40, 20, 11)])
def test_the_sum_over_a_sparse_graph_is_exact(
    party: Make, walk: Make, devices: int, degree: int, threshold: int
) -> None:
    done = walk(party(devices, sparse=(degree, threshold)), 33, 21, (1, 1, 1), devices)
    assert not done.cohort.graph.complete
    assert done.unmask().tolist() == done.plain.tolist()


def test_a_sparse_sum_with_too_few_shares_stays_masked(party: Make, walk: Make) -> None:
    """Too few shares of one device."""
    done = walk(party(30, sparse=(12, 7)), 5)
    graph, before = done.cohort.graph, done.total.copy()
    holders = [*done.cohort.neighbours(0), 0]
    for holder in holders[: len(holders) - graph.threshold + 1]:
        del done.opened[holder]
    with pytest.raises(TooFewShares):
        done.unmask()
    assert np.array_equal(done.total, before)


def test_it_takes_shares_of_a_threshold_of_the_holders(party: Make, walk: Make) -> None:
    """It skips those that hold none."""
    done = walk(party(5))
    threshold = done.cohort.graph.threshold
    for holder in range(5 - threshold):
        done.opened[holder] = NO_SHARE + done.opened[holder][SHARE_BYTES:]
    assert done.unmask().tolist() == done.plain.tolist()


def test_one_missing_share_keeps_the_whole_sum_masked(party: Make, walk: Make) -> None:
    """Of one device alone."""
    done = walk(party(5))
    before = done.total.copy()
    for holder in range(2):
        done.opened[holder] = done.opened[holder][: 4 * SHARE_BYTES] + NO_SHARE
    with pytest.raises(TooFewShares):
        done.unmask()
    assert np.array_equal(done.total, before)


@pytest.mark.parametrize("hybrid", [False, True])
def test_wrong_shares_of_a_dropouts_keys_keep_the_sum_masked(party: Make, walk: Make, hybrid: bool) -> None:
    """They do not give the keys on its card."""
    done = walk(party(5, hybrid), lost=(0, 1, 0))
    before = done.total.copy()
    dropout = next(p for p in range(5) if p not in done.survivors)
    holder = done.survivors[0]
    opened = bytearray(done.opened[holder])
    opened[SHARE_BYTES * (dropout + 1) - 1] ^= 1
    done.opened[holder] = bytes(opened)
    with pytest.raises(TooFewShares):
        done.unmask()
    assert np.array_equal(done.total, before)


def spoil(opened: bytes) -> bytes:
    """Return what a device opened with the last bit of every share flipped."""
    return bytes(byte ^ (at % SHARE_BYTES == SHARE_BYTES - 1) for at, byte in enumerate(opened))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("liar", range(5))
def test_an_opener_of_wrong_shares_is_passed_over(party: Make, walk: Make, liar: int, hybrid: bool) -> None:
    """With a share to spare."""
    done = walk(party(5, hybrid))
    done.opened[liar] = spoil(done.opened[liar])
    assert done.unmask().tolist() == done.plain.tolist()


@pytest.mark.parametrize("gone", [0, 1])
def test_two_wrong_openers_of_ten_lose_no_round(party: Make, walk: Make, gone: int) -> None:
    """Of the 45 pairs 35 lost the round although enough right shares were there; `gone` opens nothing beside them."""
    shared = walk(party(10))
    for one, other in combinations(range(10), 2):
        done = replace(shared, total=shared.total.copy(), opened=dict(shared.opened))
        for liar in (one, other):
            done.opened[liar] = spoil(done.opened[liar])
        for silent in [p for p in range(10) if p not in (one, other)][:gone]:
            del done.opened[silent]
        assert done.unmask().tolist() == done.plain.tolist()


def test_wrong_openers_are_passed_over_if_enough_are_right(party: Make, walk: Make) -> None:
    """However many they are, while a threshold is right."""
    done = walk(party(20, colluders=0.0))
    for liar in range(0, 18, 2):
        done.opened[liar] = spoil(done.opened[liar])
    assert done.cohort.graph.threshold == 11
    assert done.unmask().tolist() == done.plain.tolist()


def test_shares_are_put_together_once_a_secret(party: Make, walk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not matter which are opened."""
    done, tried = walk(party(20)), list[dict[int, bytes]]()

    def counted(shares: dict[int, bytes]) -> bytes | None:
        tried.append(shares)
        return combine(shares)

    monkeypatch.setattr("bract.privacy.secagg.unmask.combine", counted)
    for liar in range(6):
        done.opened[liar] = spoil(done.opened[liar])
    assert done.unmask().tolist() == done.plain.tolist()
    assert len(tried) == 20
    assert len({tuple(sorted(shares)) for shares in tried[1:]}) == 1  # so that they are weighed together


def test_who_deals_shares_of_no_secret_is_known_by_its_hashes(party: Make, walk: Make) -> None:
    """Each share is that of its hash, so every opener is right and the dealer alone can be wrong."""
    group = party(5)
    dealt = group.share
    group.share = lambda position: dealt(position) if position != 3 else _deal_nothing(group)  # type: ignore[method-assign]
    done = walk(group)
    with pytest.raises(TooFewShares) as caught:
        done.unmask()
    assert caught.value.dealer == 3


def _deal_nothing(group: Any) -> SecretShares:
    own, session, cards = group.secrets[3], group.session.digest, group.cohort.cards
    held = [SecretShares(bytes(1) + token_bytes(32), bytes(1) + token_bytes(32)) for _ in cards]
    boxes = [seal(own, cards[3], card, held[p], session) for p, card in enumerate(cards) if p != 3]
    group.cohort.boxes[3] = b"".join((*boxes, hashes(held[3], cards[3], cards[3], session)))
    return held[3]


def test_who_opens_too_few_right_shares_names_no_dealer(party: Make, walk: Make) -> None:
    done = walk(party(5))
    for liar in (1, 2):
        done.opened[liar] = spoil(done.opened[liar])
    with pytest.raises(TooFewShares) as caught:
        done.unmask()
    assert caught.value.dealer is None


def test_wrong_shares_with_none_to_spare_keep_the_sum_masked(party: Make, walk: Make) -> None:
    """Shares of own masks."""
    done = walk(party(5), lost=(0, 0, 1))
    liar, before = min(done.opened), done.total.copy()
    done.opened[liar] = spoil(done.opened[liar])
    with pytest.raises(TooFewShares):
        done.unmask()
    assert np.array_equal(done.total, before)


@pytest.mark.parametrize("misled", [(0,), (0, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("hybrid", [False, True])
def test_devices_that_were_given_two_models_sum_to_noise(
    party: Make, walk: Make, hybrid: bool, misled: tuple[int, ...]
) -> None:
    """Each of the 1,000 lanes of 16 bits is uniform: the chance that 10 or more are right is under 2^-95."""
    done = walk(party(5, hybrid), length=1000, misled=misled)
    assert np.count_nonzero(done.unmask() == done.plain) < 10


def test_the_sum_of_another_model_does_not_open(party: Make, walk: Make) -> None:
    done = walk(party(3), length=1000)
    done.model = b"\x01" * 32
    assert np.count_nonzero(done.unmask() == done.plain) < 10  # false alarm as above


@pytest.mark.parametrize("change", [-1, 1])
def test_a_survivors_vector_counts_once_or_all_is_noise(party: Make, walk: Make, change: int) -> None:
    """A sum without it, or with it twice, opens to noise."""
    done = walk(party(3), length=1000)
    done.total += done.sent[0] * np.uint64(change % 2**64)
    assert np.count_nonzero(done.unmask() == done.plain) < 10  # false alarm as above


@pytest.mark.parametrize("wanted", range(3))
def test_the_shares_of_a_full_sum_do_not_open_a_single_vector(party: Make, walk: Make, wanted: int) -> None:
    done = walk(party(3), length=1000)
    done.total[:] = done.sent[wanted]
    assert np.count_nonzero(done.unmask() == 0) < 10  # 1,000 lanes; false alarm as above
    assert np.count_nonzero(done.total) > 200
