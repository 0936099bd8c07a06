"""Tables of records and their clients."""

import numpy as np
import pytest

from bract.simulations.datasets import Source, Table

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 0, 2])
CLIENTS = np.array([5, 5, 7, 9])
NUMBERS = np.array([0.5, -1.5, 2.0, 7.25], dtype=np.float32)
TOKENS = np.array([[0, 1], [2, 3], [4, 5], [6, 6]])


def test_selection_keeps_order_and_clients():
    part = Table(FEATURES, LABELS, CLIENTS).select(np.array([3, 0]))
    assert len(part) == 2
    assert part.features.tolist() == [[9, 10, 11], [0, 1, 2]]
    assert part.labels.tolist() == [2, 0]
    assert part.clients.tolist() == [9, 5]


def test_selection_without_clients_may_be_empty():
    part = Table(FEATURES, LABELS).select(np.array([], dtype=int))
    assert len(part) == 0
    assert part.clients is None


def test_selection_outside_is_refused():
    with pytest.raises(IndexError):
        Table(FEATURES, LABELS).select(np.array([4]))


def test_tokens_have_a_label_at_every_place():
    table = Table(TOKENS, TOKENS + 1, CLIENTS)
    assert table.has_tokens
    assert (table.classes, Table(TOKENS + 3, TOKENS).classes) == (8, 10)
    assert table.select(np.array([2])).labels.tolist() == [[5, 6]]
    assert not Table(FEATURES, LABELS).has_tokens
    assert Table(FEATURES, LABELS).classes == 3


def test_labels_may_be_numbers_of_any_sign():
    table = Table(FEATURES, NUMBERS, CLIENTS)
    assert (table.has_numbers, table.has_tokens, table.has_classes, table.classes) == (True, False, False, 1)
    assert table.select(np.array([3, 1])).labels.tolist() == [7.25, -1.5]
    assert Table(FEATURES, LABELS).has_classes
    assert not Table(TOKENS, TOKENS).has_classes


def test_the_largest_clients_have_most_training_records():
    """Then come the lowest numbers."""
    train = Table(FEATURES[[0] * 8], np.arange(8), np.array([4, 2, 2, 4, 7, 7, 7, 9]))
    test = Table(FEATURES, LABELS, np.array([9, 4, 2, 7]))
    source = Source(train, test).largest(2)
    assert source.train.labels.tolist() == [1, 2, 4, 5, 6]
    assert source.test.clients.tolist() == [2, 7]
    assert len(Source(train, test).largest(9).train) == 8


def test_all_clients_stay_where_the_test_part_is_nobodys():
    train = Table(FEATURES, LABELS, CLIENTS)
    for source in (Source(train, None), Source(train, Table(FEATURES, LABELS))):
        assert source.largest(1) is source


def test_is_frozen():
    with pytest.raises(AttributeError):
        Table(FEATURES, LABELS).labels = LABELS


def test_repr_shows_sizes_only():
    assert repr(Table(FEATURES, LABELS, CLIENTS)) == "Table(4 records of shape (3,), 3 natural clients)"
    assert repr(Table(FEATURES, LABELS)) == "Table(4 records of shape (3,), no natural clients)"


@pytest.mark.parametrize(
    ("features", "labels", "clients", "what"),
    [
        (FEATURES, LABELS[:3], None, "4 records but 3 labels"),
        (FEATURES, LABELS, CLIENTS[:2], "4 records but 2 clients"),
        (FEATURES, LABELS - 1, None, "the labels hold a negative number"),
        (FEATURES, LABELS, CLIENTS - 6, "the clients hold a negative number"),
        (FEATURES / np.float32(np.nan), LABELS, None, "NaN or infinity"),
        (FEATURES.astype(float), LABELS, None, "not a float32 array"),
        (FEATURES[:, 0], LABELS, None, "not a float32 array"),
        (FEATURES, LABELS.astype(np.int32), None, "not an int64 or float32 array"),
        (FEATURES, LABELS.astype(float), None, "not an int64 or float32 array"),
        (FEATURES, LABELS.astype(np.float32)[:, None], None, "not both int64 arrays [N, T]"),
        (FEATURES, NUMBERS * np.float32(np.inf), None, "the labels hold NaN or infinity"),
        (FEATURES, NUMBERS[:3], None, "4 records but 3 labels"),
        (FEATURES, LABELS, CLIENTS[:, np.newaxis], "not an int64 array"),
        (FEATURES.astype(int), LABELS, None, "not a float32 array"),
        (TOKENS, TOKENS[:, :1], None, "not both int64 arrays [N, T]"),
        (TOKENS.astype(np.float32), TOKENS, None, "not both int64 arrays [N, T]"),
        (TOKENS, TOKENS.astype(np.int32), None, "not both int64 arrays [N, T]"),
        (TOKENS, TOKENS[:3], None, "4 records but 3 labels"),
        (TOKENS - 1, TOKENS, None, "the features hold a negative number"),
        (TOKENS, TOKENS - 1, None, "the labels hold a negative number"),
    ],
)
def test_faults(refused, features, labels, clients, what):
    refused(lambda: Table(features, labels, clients), what, "build tables with")
