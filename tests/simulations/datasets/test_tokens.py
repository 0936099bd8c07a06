"""Texts as windows of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.simulations.datasets import Table, holdout, partition
from bract.simulations.datasets.tokens import parts, run_length, windowed, windows

texts = st.lists(st.integers(0, 9), max_size=60).map(lambda numbers: np.array(numbers, dtype=np.int64))


@given(texts, st.integers(1, 12))
def test_windows_follow_each_other_and_drop_less_than_one(text, length):
    features, labels = windows(text, length)
    assert features.shape == labels.shape == (max(len(text) - 1, 0) // length, length)
    assert features.dtype == labels.dtype == np.int64
    used = features.size
    assert np.array_equal(features.reshape(-1), text[:used])
    assert np.array_equal(labels.reshape(-1), text[1 : used + 1])
    assert max(len(text) - 1, 0) - used < length


@given(texts)
def test_parts_are_the_text_in_order(text):
    train, test = parts(text)
    assert np.array_equal(np.concatenate([train, test]), text)
    assert len(train) == len(text) * 4 // 5


def test_records_belong_to_their_text():
    source = windowed("letters", [np.arange(20), np.arange(5), np.arange(100, 110)], 3)
    assert source.train.clients.tolist() == [0] * 5 + [1] + [2] * 2
    assert source.test.clients.tolist() == [0]
    assert source.test.features.tolist() == [[16, 17, 18]]
    assert source.train.labels[-1].tolist() == [104, 105, 106]


def test_no_test_record_is_trained_on():
    source = windowed("letters", [np.arange(200)], 7)
    assert set(source.train.labels.reshape(-1)).isdisjoint(source.test.labels.reshape(-1))


def test_faults(refused):
    refused(lambda: windowed("letters", [np.arange(20)], 4), "letters has more than 4 tokens", "smaller number")
    refused(lambda: run_length("letters", (1, 28)), "the plan's shape is [1, 28]", "set data.shape to one number")
    assert run_length("letters", (80,)) == 80


def test_tokens_are_split_by_owner_or_evenly():
    source = windowed("letters", [np.arange(50) % 9, np.arange(90) % 9], 4)
    assert holdout(source, "natural", 0.2, 0) == (source.train, source.test)
    by_owner = partition(source.train, "natural", 2, 0)
    assert [set(source.train.clients[part]) for part in by_owner] == [{0}, {1}]
    evenly = partition(source.train, "iid", 3, 0)
    assert np.sort(np.concatenate(evenly)).tolist() == list(range(len(source.train)))


@pytest.mark.parametrize("split", ["dirichlet:0.5", "pathological:2"])
def test_tokens_are_not_split_by_their_labels(refused, split):
    table = Table(np.zeros((6, 2), dtype=np.int64), np.zeros((6, 2), dtype=np.int64))
    refused(
        lambda: partition(table, split, 2, 0), f"{split!r} needs one class label per record", "'natural' or 'iid'"
    )
