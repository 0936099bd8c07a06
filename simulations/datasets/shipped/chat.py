"""Next-word prediction on messages of the Chit-Chat Challenge; each author is a client."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np

from ....privacy.errors import DataError
from ..dataset import Dataset, path_of
from ..table import Source
from ..tokens import Text, parts, run_length, windowed
from ..wheels import Wheel, open_wheel

WHEEL = Wheel(
    "chitchat-dataset",
    "0.9.0",
    "chitchat_dataset-0.9.0-py3-none-any.whl",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)
END, UNKNOWN = 0, 1
"""The tokens for the end of a message and for a word outside the vocabulary; other words are numbered from 2."""
LEAST_WORDS, MOST_WORDS = 100, 5000
"""A client with fewer words (with punctuation marks) is left out; words after the most are cut off."""

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|[^a-z0-9\s]")
_ADDRESS = r"[\w.+-]+@[\w-]+\.\w"
_STRONG = "shpx|fuvg|ovgpu|phag|avttre|avttn|snttbg|fyhg|juber|chffl|nffubyr|encvfg|cbea|ergneq"  # in rot13
_LEFT_OUT = re.compile(rf"{_ADDRESS}|\b(?:{codecs.decode(_STRONG, 'rot13')})")

Words = list[str]  # one client's words by time; an empty string ends each message


def load(path: Path | None, shape: tuple[int, ...], classes: int) -> Source:
    """Return token sequences: features and labels int64 [N, T], T = shape[0], clients 0..847, and a test part.

    A client is a person with at least 100 words; the 848 clients are numbered by decreasing number of words. Text is
    in lower case, and each punctuation mark is a word. Messages with an e-mail address or an offensive word are left
    out. Each person's first 5,000 words are used, and a token ends each message. The first 80 % of these tokens are
    for training, the rest for testing. Tokens are 0..classes-1: the end of a message, an unknown word, and the
    classes - 2 most common words of the training parts. The wheel is read from `path`, or fetched.

    The vocabulary is assumed to be public, as is usual for benchmarks, and no budget pays for it. A deployment on
    real messages needs a vocabulary from another source.

    Raises: DataError if the wheel cannot be fetched or is not the known one, or if shape or classes are not usable.
    """
    length = run_length("chat", shape)
    if classes < 3:
        raise DataError(f"{classes} classes leave no word to predict", "set data.classes to 10000, for example")
    people = [_first(words) for words in sorted(_people(path), key=_count, reverse=True)]
    numbers = _vocabulary(people, classes - 2)
    return windowed("chat", [_numbered(words, numbers) for words in people], length)


def split_words(message: str) -> list[str]:
    """Return the words of a message in lower case, with each punctuation mark as a word.

    >>> split_words("Don't go, ANNE!?")
    ["don't", 'go', ',', 'anne', '!', '?']
    """
    return _WORD.findall(message.lower())


def is_left_out(message: str) -> bool:
    """Return whether the message contains an e-mail address or an offensive word.

    >>> is_left_out("write to someone@example.org")
    True
    """
    return _LEFT_OUT.search(message.lower()) is not None


def _people(path: Path | None) -> list[Words]:
    """Return the words of each client. The order of the clients depends only on the file."""
    with open_wheel(WHEEL, path) as archive:
        conversations = json.loads(archive.read("chitchat_dataset/dataset.json"))
    sent: dict[str, list[dict[str, str]]] = {}
    for conversation in conversations.values():
        for message in chain.from_iterable(conversation["messages"]):
            sent.setdefault(message["sender"], []).append(message)
    people = [_words(sorted(messages, key=itemgetter("timestamp"))) for messages in sent.values()]
    return [words for words in people if _count(words) >= LEAST_WORDS]


def _words(messages: list[dict[str, str]]) -> Words:
    """Return the words of the messages that are not left out."""
    texts = [message["text"] for message in messages]
    return [word for text in texts if not is_left_out(text) for word in [*split_words(text), ""]]


def _count(words: Words) -> int:
    """Return the number of words, without the ends of messages."""
    return len(words) - words.count("")


def _first(words: Words) -> Words:
    """Return the first MOST_WORDS words, and the end of the message if the last word ends one."""
    counts = np.cumsum([word != "" for word in words])
    return words[: int(np.searchsorted(counts, MOST_WORDS, side="right"))]


def _vocabulary(people: Sequence[Words], size: int) -> dict[str, int]:
    """Return the numbers of the `size` most common words of the training parts; ties go to the alphabet."""
    counts = Counter(chain.from_iterable(parts(words)[0] for words in people))
    del counts[""]
    common = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    return {"": END} | {word: number for number, word in enumerate(common, start=UNKNOWN + 1)}


def _numbered(words: Words, numbers: dict[str, int]) -> Text:
    return np.array([numbers.get(word, UNKNOWN) for word in words], dtype=np.int64)


DATASET = Dataset(
    "chat",
    lambda data: load(path_of(data), data.shape, data.classes),
    "the next word in messages of 848 people, a client each",
)
