"""The chat data set: words, marks and clients."""

import codecs
from itertools import chain

import numpy as np
import pytest
from data_table import data_table

from bract.simulations import datasets
from bract.simulations.datasets.shipped import chat
from bract.simulations.datasets.shipped.chat import END, UNKNOWN, is_left_out, split_words
from bract.simulations.datasets.tokens import parts

LONG = " ".join(f"w{number}" for number in range(60))  # 60 words


def test_words_are_in_lower_case_and_marks_stand_alone():
    assert split_words("I'm OK...  n0t\tYOU'd've 'n' é\n") == [
        "i'm", "ok", ".", ".", ".", "n0t", "you'd've", "'", "n", "'", "é",
    ]  # fmt: skip
    assert split_words(" \n") == []


@pytest.mark.parametrize("message", ["I am Me.too+x@Example.org!", f"oh {codecs.decode('Fuvg', 'rot13')}ty"])
def test_addresses_and_strong_words_are_left_out(message):
    assert is_left_out(message)


def test_other_messages_are_kept():
    assert not is_left_out("meet me @ noon, at a bus stop. grape & peacock pie")


def test_a_client_is_a_person_in_the_order_of_time(put_chats):
    folder = put_chats(
        [("b", 9, "last " + LONG), ("a", 1, LONG), ("c", 1, LONG)],
        [("b", 2, "First! " + LONG), ("a", 2, LONG), ("b", 5, "mail me@example.org")],
    )
    source = chat.load(folder, (5,), 1000)
    assert sorted(set(source.train.clients)) == [0, 1]  # c wrote fewer than 100 words
    words = ["first", "!", *LONG.split(), "", "last", *LONG.split(), ""]
    assert chat._people(folder)[0] == words
    tokens = source.train.features[source.train.clients == 0].reshape(-1)
    assert len(tokens) == (len(parts(words)[0]) - 1) // 5 * 5
    assert tokens[62] == END
    assert tokens[64:].tolist() == tokens[2 : 2 + len(tokens) - 64].tolist()


def test_of_the_busiest_the_first_words_count(put_chats):
    message = ("a", 1, "word " * 49 + ".")
    folder = put_chats([message] * 100 + [("a", 2, "late")], [("a", 3, "later")])
    [words] = chat._people(folder)
    kept = chat._first(words)
    assert (chat._count(words), chat._count(kept)) == (5002, 5000)
    assert len(kept) == 5100
    assert kept[-1] == ""
    assert "late" not in kept
    assert chat._first(["a"] * 5001) == ["a"] * 5000
    assert chat._first(["a", ""]) == ["a", ""]


def test_the_vocabulary_is_the_commonest_training_words(put_chats):
    """Of the training parts."""
    often, seldom, held_out = "x " * 50, "y " * 40 + "b a", "z " * 30
    folder = put_chats([("a", 1, often), ("a", 2, seldom), ("a", 3, held_out)])
    source = chat.load(folder, (11,), 6)  # 100 tokens are trained on, 6 of them z
    train = source.train.features.reshape(-1).tolist()
    assert train[:51] == [2] * 50 + [END]
    assert train[51:94] == [3] * 40 + [UNKNOWN, 5, END]  # of b and a the first in the alphabet
    assert train[94:] == [4] * 5
    assert set(source.test.features.reshape(-1)) == {4}


def test_shape_and_classes(put_chats, refused):
    folder = put_chats([("a", 1, LONG), ("a", 2, LONG)])
    refused(lambda: chat.load(folder, (5,), 2), "2 classes leave no word", "data.classes")
    refused(lambda: chat.load(folder, (1, 28, 28), 100), "the plan's shape is [1, 28, 28]", "one number")


@pytest.fixture(scope="module")
def known(known_wheels):
    return datasets.load(data_table("chat", known_wheels, (20,), 10_000))


def test_the_known_edition_has_the_known_counts(known_wheels, monkeypatch):
    monkeypatch.setattr(chat, "LEAST_WORDS", 0)
    monkeypatch.setattr(chat, "is_left_out", lambda message: False)
    people = chat._people(known_wheels)
    counts = np.array([chat._count(words) for words in people])
    assert (len(people), counts.sum(), counts.max()) == (1315, 2_757_410, 242_770)
    assert len(set(chain.from_iterable(people)) - {""}) == 39_667
    kept = counts[counts >= 100]
    assert (len(kept), kept.sum(), kept.clip(max=5000).sum()) == (848, 2_740_247, 1_037_829)
    assert (counts >= 1000).sum() == 270


def test_few_messages_of_the_known_edition_are_left_out(known_wheels):
    people = chat._people(known_wheels)
    assert (len(people), sum(map(chat._count, people))) == (848, 2_739_814)
    assert sum(chat._count(chat._first(words)) for words in people) == 1_037_740


def test_records_of_the_known_edition(known):
    assert (len(known.train), len(known.test)) == (44_993, 10_956)
    assert len(np.unique(known.train.clients)) == len(np.unique(known.test.clients)) == 848
    assert known.train.classes == 10_000
    words = known.test.labels[known.test.labels != END]
    assert (words == UNKNOWN).mean() == pytest.approx(0.026, abs=0.001)
    assert len(known.largest(270).train) > 0.7 * len(known.train)


def test_pairs_tell_the_next_word_as_often_as_known(known):
    """The commonest follower of each word is right for 13.2 % of the words, ends of messages not scored."""
    pairs, counts = np.unique(known.train.features * 10_000 + known.train.labels, return_counts=True)
    order = np.lexsort((-counts, pairs // 10_000))
    words, first = np.unique(pairs[order] // 10_000, return_index=True)
    guess = np.zeros(10_000, dtype=np.int64)
    guess[words] = pairs[order][first] % 10_000
    scored = known.test.labels != END
    right = guess[known.test.features] == known.test.labels
    assert right[scored].mean() == pytest.approx(0.132, abs=0.002)
