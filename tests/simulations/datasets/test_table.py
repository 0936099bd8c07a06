import numpy as np
import pytest

from bract.simulations.datasets import Table

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 0, 2])
CLIENTS = np.array([5, 5, 7, 9])


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
        (FEATURES, LABELS.astype(np.int32), None, "not an int64 array"),
        (FEATURES, LABELS, CLIENTS[:, np.newaxis], "not an int64 array"),
    ],
)
def test_faults(refused, features, labels, clients, what):
    refused(lambda: Table(features, labels, clients), what, "build tables with")
