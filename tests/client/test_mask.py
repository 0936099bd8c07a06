"""The last step before an update leaves the device: the words of the plan's ring, under masks or in the clear."""

from __future__ import annotations

import numpy as np
import pytest
from devices import make_tiny_plan

from bract.client.mask import mask
from bract.privacy import Contribution, Upload, mechanism_of
from bract.privacy.secagg.masks import Mask

SECURE = {"aggregation": {"protocol": "secagg"}, "cohort": {"size": 2}}


def contribution() -> Contribution:
    return Contribution(np.arange(-20, 31, dtype=np.int64))


def test_without_masks_the_words_are_the_vector_in_the_ring() -> None:
    mechanism = mechanism_of(make_tiny_plan())
    words = mask(contribution(), mechanism, [])
    assert isinstance(words, Upload)
    assert words.vector.dtype == np.uint64
    assert np.array_equal(mechanism.grid.ring.decode(words.vector, 51), contribution().vector)
    assert repr(words) == "Upload(shape=(11,), dtype=uint64)"


def test_masks_cover_every_word_and_come_off_again() -> None:
    mechanism, given = mechanism_of(make_tiny_plan(**SECURE)), contribution()
    bare = mechanism.grid.ring.encode(given.vector)
    once = mask(given, mechanism, [Mask(bytes(32), 1)]).vector
    assert not np.any(once == bare)  # by chance: 11 in 2^64
    both = mask(given, mechanism, [Mask(bytes(32), 1), Mask(bytes(32), -1)]).vector
    assert np.array_equal(both, bare)
    assert np.array_equal(given.vector, contribution().vector)


def test_masks_are_there_where_the_plan_is_secure_and_only_there() -> None:
    with pytest.raises(
        ValueError, match="masks are given for a plan without masks, or missing for a plan with masks"
    ):
        mask(contribution(), mechanism_of(make_tiny_plan(**SECURE)), [])
    with pytest.raises(
        ValueError, match="masks are given for a plan without masks, or missing for a plan with masks"
    ):
        mask(contribution(), mechanism_of(make_tiny_plan()), [Mask(bytes(32), 1)])
