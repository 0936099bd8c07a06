"""The number of parameters of bract's networks, by arithmetic: importing torch to count them takes seconds.

A network that is not in `SIZES` is counted by torch, so a new one needs no entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

Shape = tuple[int, ...]

NOT_FOR_OPACUS = frozenset({"gru-lm", "lstm", "rnn"})
"""Networks that Opacus cannot train, whatever the shape of the records."""


def count_parameters(name: str, shape: Shape, classes: int) -> int | None:
    """Return the same number as `models.count_parameters`, or None for a network or shape unknown here.

    >>> count_parameters("cnn", (1, 28, 28), 10)
    121930
    """
    return SIZES[name](shape, classes) if name in SIZES else None


def _dense(*widths: int) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


def _recurrent(gates: int, features: int, units: int) -> int:
    return gates * units * (features + units + 2)


def _features(shape: Shape) -> int | None:
    """Return the number of features of a step; None if the record is not a sequence."""
    is_sequence = len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)
    return shape[-1] if is_sequence and min(shape) > 0 else None


def _flat(shape: Shape, *widths: int) -> int | None:
    return _dense(math.prod(shape), *widths) if math.prod(shape) else None


def _autoencoder(shape: Shape, classes: int) -> int | None:
    return _flat(shape, 128, 32, 128, math.prod(shape)) if shape else None


def _linear(shape: Shape, classes: int) -> int | None:
    return _flat(shape, 1) if classes == 1 else None


def _rnn(shape: Shape, classes: int) -> int | None:
    features = _features(shape)
    return None if features is None else _recurrent(1, features, 32) + _dense(32, classes)


def _lstm(shape: Shape, classes: int) -> int | None:
    features = _features(shape)
    return None if features is None else _recurrent(4, features, 32) + _dense(32, classes)


def _gru_lm(shape: Shape, classes: int) -> int | None:
    if len(shape) != 1 or shape[0] < 1:
        return None
    return 64 * classes + _recurrent(3, 64, 128) + _dense(128, 128, classes)


def _ngram(shape: Shape, classes: int) -> int | None:
    if len(shape) != 1 or shape[0] < 1 or classes < 1:
        return None
    return sum(classes * max(1, min(classes**order, (5 << 20) // classes)) for order in range(min(5, shape[0])))


def _attention(shape: Shape, classes: int) -> int | None:
    has_tokens = len(shape) == 1 and shape[0] > 0
    features = _features(shape)
    if not has_tokens and features is None:
        return None
    vectors = 64 * classes if features is None else _dense(features, 64)
    steps = shape[-2:][0]
    return vectors + 64 * steps + 4 * _dense(64, 64) + 2 * 64 + _dense(64, classes)


def _convolutions(*channels: int) -> int:
    return _dense(*channels) + 8 * sum(a * b for a, b in pairwise(channels))


def _cnn(shape: Shape, classes: int) -> int | None:
    if len(shape) != 3 or min(shape[1:]) < 10:
        return None
    height, width = (((side - 2) // 2 - 2) // 2 for side in shape[1:])
    return _convolutions(shape[0], 32, 64) + _dense(64 * height * width, 64, classes)


def _cnn_large(shape: Shape, classes: int) -> int | None:
    if len(shape) != 3 or min(shape[1:]) < 18:
        return None
    height, width = (((side - 2) // 2 - 2) // 2 - 2 for side in shape[1:])
    return _convolutions(shape[0], 32, 64, 128) + _dense(128 * height * width, 512, classes)


def _cnn_1d(shape: Shape, classes: int) -> int | None:
    features = _features(shape)
    if features is None or shape[-2] < 16:
        return None
    return 9 * 32 * features + 32 + 5 * 32 * 64 + 64 + 2 * (32 + 64) + _dense(64 * 4, classes)


def _scattering_1d(shape: Shape, classes: int) -> int | None:
    features = _features(shape)
    if features is None or shape[-2] < 16:
        return None
    scales = min(5, int(math.log2(shape[-2])) - 2)
    return _dense(2 * features * (1 + scales + scales * (scales - 1) // 2), classes)


def _scattering(shape: Shape, classes: int) -> int | None:
    if len(shape) != 3 or min(shape[1:]) < 8 or not shape[0]:
        return None
    return _dense(81 * shape[0] * math.prod(-(-side // 4) for side in shape[1:]), classes)


def _gan(shape: Shape, classes: int) -> int | None:
    numbers = math.prod(shape)
    return _dense(numbers, 64, 1) + _dense(32, 128, numbers) if numbers else None


SIZES: dict[str, Callable[[Shape, int], int | None]] = {
    "attention": _attention,
    "autoencoder": _autoencoder,
    "cnn": _cnn,
    "cnn-1d": _cnn_1d,
    "cnn-large": _cnn_large,
    "gan": _gan,
    "gru-lm": _gru_lm,
    "linear": _linear,
    "logistic": lambda shape, classes: _flat(shape, classes),
    "lstm": _lstm,
    "mlp": lambda shape, classes: _flat(shape, 64, 64, classes),
    "ngram": _ngram,
    "ngram-client": _ngram,
    "rnn": _rnn,
    "scattering": _scattering,
    "scattering-1d": _scattering_1d,
}
"""Maps a name to a function of (shape of one record, number of classes)."""
