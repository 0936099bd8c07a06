"""Splits between clients, and the holdout."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.privacy.errors import DataError
from bract.simulations.datasets import Source, Table, holdout, partition
from bract.simulations.datasets.shipped import digits
from bract.simulations.datasets.splits import parse


def table(labels, clients=None):
    labels = np.asarray(labels, dtype=np.int64)
    features = np.arange(len(labels), dtype=np.float32).reshape(-1, 1)
    return Table(features, labels, None if clients is None else np.asarray(clients, dtype=np.int64))


NUMBERS = Table(np.ones((20, 1), dtype=np.float32), np.linspace(-1, 1, 20, dtype=np.float32), np.arange(20) % 4)


def balanced(records, classes=10):
    return table(np.arange(records) % classes)


def check_cover(parts, records):
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) > 0
        assert (np.diff(part) > 0).all()
    assert sorted(np.concatenate(parts)) == list(range(records))


@pytest.fixture(scope="module")
def sheets():
    return digits.load(None)


class TestHoldout:
    def test_natural_holds_out_the_last_sheets_whole(self, sheets):
        train, test = holdout(sheets, "natural", 0.2, 1)
        assert set(test.clients) == {11, 12, 13}
        assert set(train.clients) == set(range(11))
        assert len(train) == 1415
        assert len(test) == 382

    def test_held_out_sheets_never_reach_a_client(self, sheets):
        train, test = holdout(sheets, "natural", 0.2, 1)
        held_out = {row.tobytes() for row in test.features}
        parts = partition(train, "natural", None, 1)
        assert len(parts) == 11
        for number, part in enumerate(parts):
            records = train.select(part)
            assert set(records.clients) == {number}
            assert held_out.isdisjoint(row.tobytes() for row in records.features)

    @pytest.mark.parametrize(("fraction", "clients"), [(0.01, 1), (0.5, 7), (0.999, 13)])
    def test_natural_leaves_someone_on_each_side(self, sheets, fraction, clients):
        train, test = holdout(sheets, "natural", fraction, 0)
        assert len(set(test.clients)) == clients
        assert len(set(train.clients)) == 14 - clients

    def test_official_test_part_wins(self):
        source = Source(balanced(20), balanced(7))
        assert holdout(source, "iid", 0.5, 0) == (source.train, source.test)

    @given(st.integers(2, 60), st.floats(0.001, 0.999), st.integers(0, 2**32))
    def test_drawn_records_are_disjoint_and_repeatable(self, records, fraction, seed):
        source = Source(balanced(records), None)
        train, test = holdout(source, "iid", fraction, seed)
        again, _ = holdout(source, "iid", fraction, seed)
        assert sorted([*train.features[:, 0], *test.features[:, 0]]) == list(range(records))
        assert len(test) == min(max(1, round(fraction * records)), records - 1)
        assert np.array_equal(train.features, again.features)

    def test_seeds_differ(self, sheets):
        first, second = (holdout(sheets, "iid", 0.2, seed)[1] for seed in (0, 1))
        assert not np.array_equal(first.features, second.features)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
    def test_bad_fraction(self, refused, fraction):
        source = Source(balanced(20), None)
        refused(lambda: holdout(source, "iid", fraction, 0), "is not between 0 and 1", "0.2")

    def test_faults(self, refused):
        alone = Source(table([0, 1], [3, 3]), None)
        one, nine = Source(balanced(1), None), Source(balanced(9), None)
        refused(lambda: holdout(alone, "natural", 0.2, 0), "a single natural client", "iid")
        refused(lambda: holdout(nine, "natural", 0.2, 0), "the owner of each record", "client column")
        refused(lambda: holdout(one, "iid", 0.2, 0), "1 records cannot be split", "two")
        refused(lambda: holdout(nine, "iid", 0.2, -1), "the seed -1 is negative", "0 or more")
        refused(lambda: holdout(nine, "half", 0.2, 0), "'half' is not a way", "dirichlet:ALPHA")


class TestPartition:
    @settings(max_examples=25, deadline=None)
    @given(
        st.sampled_from(["iid", "dirichlet:0.3", "dirichlet:5", "pathological:1", "pathological:2"]),
        st.lists(st.integers(0, 3), min_size=1, max_size=60),
        st.integers(1, 12),
        st.integers(0, 2**40),
    )
    def test_covers_or_refuses_and_repeats(self, split, labels, clients, seed):
        data = table(labels)
        try:
            parts = partition(data, split, clients, seed)
        except DataError:  # the faults have tests of their own
            assert split != "iid" or clients > len(labels)
            return
        check_cover(parts, len(labels))
        assert len(parts) == clients
        again = partition(data, split, clients, seed)
        assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.sampled_from([0, 2, 3, 9]), min_size=1, max_size=40), st.integers(0, 9))
    def test_natural_is_one_part_an_owner(self, owners, seed):
        parts = partition(table([0] * len(owners), owners), "natural", None, seed)
        check_cover(parts, len(owners))
        assert [set(np.asarray(owners)[part]) for part in parts] == [{owner} for owner in sorted(set(owners))]

    def test_iid_sizes_are_even_and_shuffled(self):
        parts = partition(balanced(103), "iid", 10, 4)
        check_cover(parts, 103)
        assert sorted(map(len, parts)) == [10] * 7 + [11] * 3
        assert parts[0].tolist() != list(range(len(parts[0])))

    def test_seeds_differ(self):
        for split in ("iid", "dirichlet:0.5", "pathological:2"):
            first, second = (partition(balanced(200), split, 10, seed) for seed in (0, 1))
            assert not all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))

    def test_numbers_may_be_dealt_out_by_owner_or_evenly(self):
        assert [len(part) for part in partition(NUMBERS, "natural", None, 0)] == [5] * 4
        check_cover(partition(NUMBERS, "iid", 3, 0), 20)

    def test_natural_count_may_be_said(self, sheets):
        assert len(partition(sheets.train, "natural", 14, 0)) == 14

    def test_smaller_alpha_is_more_uneven(self):
        def unevenness(alpha):
            parts = partition(balanced(4000), f"dirichlet:{alpha}", 10, 3)
            counts = np.array([np.bincount(part % 10, minlength=10) for part in parts])
            return (counts / counts.sum(axis=1, keepdims=True)).max(axis=1).mean()

        assert unevenness(0.1) > unevenness(1) + 0.1 > unevenness(100) + 0.2

    @pytest.mark.parametrize(("clients", "classes"), [(10, 1), (20, 2), (5, 4), (1, 10)])
    def test_pathological_clients_hold_that_many_classes(self, clients, classes):
        parts = partition(balanced(1000), f"pathological:{classes}", clients, 3)
        check_cover(parts, 1000)
        assert Counter(len(set(part % 10)) for part in parts) == {classes: clients}

    @pytest.mark.parametrize(
        ("classes", "each", "clients"), [(4, 2, 3), (10, 2, 5), (10, 3, 4), (10, 1, 10), (7, 4, 2)]
    )
    def test_fewer_clients_than_classes_get_all_classes(self, classes, each, clients):
        """It holds for any seed."""
        for seed in range(6):
            parts = partition(balanced(40, classes), f"pathological:{each}", clients, seed)
            check_cover(parts, 40)
            assert {len(set(part % classes)) for part in parts} == {each}

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99)
    )
    def test_a_pathological_split_is_refused_where_there_is_none(self, sizes, each, clients, seed):
        """It is not refused anywhere else."""
        labels = np.repeat(np.arange(len(sizes)), sizes)
        feasible = len(sizes) <= each * clients <= sum(min(size, clients) for size in sizes) and each <= len(sizes)
        if clients > len(labels) or not feasible:
            with pytest.raises(DataError):
                partition(table(labels), f"pathological:{each}", clients, seed)
            return
        parts = partition(table(labels), f"pathological:{each}", clients, seed)
        check_cover(parts, len(labels))
        assert {len(set(labels[part])) for part in parts} == {each}

    def test_the_pairs_of_classes_that_clients_hold_are_mixed(self):
        parts = partition(balanced(4000), "pathological:2", 100, 1)
        assert len({tuple(sorted(set(part % 10))) for part in parts}) > 25

    def test_order_of_the_file_says_nothing(self):
        """Without the shuffle a client's records of one class would lie side by side."""
        for part in partition(table([0] * 1000), "pathological:1", 10, 0):
            assert np.diff(part).max() > 1

    def test_hundred_clients_on_few_records(self, sheets):
        check_cover(partition(sheets.train, "dirichlet:0.3", 100, 0), 1797)

    @pytest.mark.parametrize("split", ["dirichlet:0.3", "pathological:2", "iid"])
    def test_sixty_thousand_records_are_all_dealt_out(self, split):
        check_cover(partition(balanced(60_000), split, 100, 7), 60_000)

    def test_nothing_is_printed_or_warned(self, sheets, capfd):
        partition(sheets.train, "natural", None, 0)
        partition(sheets.train, "dirichlet:0.3", 100, 0)
        assert capfd.readouterr() == ("", "")

    def test_global_randomness_is_left_alone(self):
        np.random.seed(3)
        before = np.random.get_state()[1].tolist()
        partition(balanced(50), "dirichlet:1", 5, 0)
        assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize(
    "split",
    [
        "", "natural:1", "iid:", "dirichlet", "dirichlet:", "dirichlet:0", "dirichlet:-1", "dirichlet:nan",
        "dirichlet:inf", "dirichlet:a", "pathological", "pathological:0", "pathological:1.5", "pathological:inf",
        "Natural", "shards:2",
    ],
)  # fmt: skip
def test_bad_split(refused, split):
    refused(lambda: partition(balanced(20), split, 2, 0), f"{split!r} is not a way to split data", "dirichlet:ALPHA")


def test_parse():
    assert parse("natural") == ("natural", 0)
    assert parse("iid") == ("iid", 0)
    assert parse("dirichlet:0.3") == ("dirichlet", 0.3)
    assert parse("pathological:2") == ("pathological", 2)


@pytest.mark.parametrize(
    ("data", "split", "clients", "what", "hint"),
    [
        (balanced(20), "natural", None, "the owner of each record", "add a client column"),
        (table([0, 1, 0], [4, 4, 6]), "natural", 3, "2 natural clients, not 3", "set data.clients = 2"),
        (balanced(20), "iid", None, "needs a number of clients", "set data.clients"),
        (balanced(20), "iid", 0, "needs a number of clients", "set data.clients"),
        (balanced(20), "iid", 21, "21 clients are more than the 20 records", "to 20 or less"),
        (balanced(0), "iid", 1, "1 clients are more than the 0 records", "lower"),
        (balanced(20), "dirichlet:1e-9", 20, "was found that gives each of 20 clients", "lower data.clients"),
        (balanced(20), "pathological:11", 2, "11 classes per client, the data have 10", "pathological:10"),
        (balanced(20), "pathological:2", 4, "4 clients of 2 classes each cannot hold the 10", "5 or more"),
        (table([0] * 19 + [1]), "pathological:2", 9, "9 clients cannot hold 2 classes each", "lower"),
        (
            NUMBERS,
            "dirichlet:0.3",
            2,
            "needs one class label per record, but these data have numbers",
            "'natural' or 'iid'",
        ),
        (
            NUMBERS,
            "pathological:2",
            2,
            "needs one class label per record, but these data have numbers",
            "'natural' or 'iid'",
        ),
        (balanced(20), "iid", 2, "the seed -5 is negative", "0 or more"),
    ],
)
def test_faults(refused, data, split, clients, what, hint):
    refused(lambda: partition(data, split, clients, -5 if "seed" in what else 0), what, hint)
