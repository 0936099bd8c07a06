"""Noise in the model under banded factorisations, against independent noise of the same cost: size and time."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
from _bars import Bar, arguments, options_of, show

from bract.privacy import Keystream
from bract.privacy.mechanisms.central import correlated_gaussian
from bract.privacy.mechanisms.correlation import Correlation
from bract.privacy.mechanisms.factorisation import coefficients, deviations, square_root, whole_weights

ROUNDS, BANDS = (100, 1000, 10_000), (2, 4, 8, 16, 32, 64)
STD = 2.0**20


def ratio(c: np.ndarray, rounds: int, momentum: float = 0.0, restarts: int = 0) -> float:
    """Return the root mean square error over all rounds, divided by the error of independent noise.

    The noise restarts `restarts` times at even distances (without momentum). Noise in the model by then stays.
    """
    starts = [i * rounds // (restarts + 1) for i in range(restarts + 2)]
    variances, before = [], 0.0
    for start, end in pairwise(starts):
        block = deviations(c, end - start, momentum) ** 2
        variances.append(before + block)
        before += block[-1]
    independent = deviations([1.0], rounds, momentum) ** 2
    return math.sqrt(np.concatenate(variances).sum() / independent.sum())


def row(rounds: int, bands: int) -> dict[str, object]:
    """Return the figures of one factorisation."""
    began = time.perf_counter()
    c = coefficients(rounds, bands)
    seconds = time.perf_counter() - began
    return {
        "rounds": rounds,
        "bands": bands,
        "optimum": ratio(c, rounds),
        "square root": ratio(square_root(bands), rounds),
        "last round": float(deviations(c, rounds)[-1]) / math.sqrt(rounds),
        "1 restart": ratio(c, rounds, restarts=1),
        "4 restarts": ratio(c, rounds, restarts=4),
        "momentum 0.9": ratio(coefficients(rounds, bands, 0.9), rounds, 0.9),
        "seconds": seconds,
    }


def draw_seconds(bands: int, parameters: int) -> float:
    """Return the least time, in seconds, to draw a round's noise once all bands are filled."""
    state, keystream, times = Correlation(whole_weights(coefficients(1000, bands), STD)), Keystream(bytes(32)), []
    for number in range(bands + 3):
        began = time.perf_counter()
        _, state = correlated_gaussian(STD, parameters, keystream, state)
        if number >= bands - 1:
            times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Find all factorisations, and draw noise from some."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--most", type=int, default=ROUNDS[-1], help="the most rounds")
    parser.add_argument("--parameters", type=float, default=1e6)
    options = options_of(parser, most=1000, parameters=1e3)
    tried = [rounds for rounds in ROUNDS if rounds <= options.most]
    rows = [row(rounds, bands) for rounds in tried for bands in BANDS if bands <= rounds]
    by = {(found["rounds"], found["bands"]): found for found in rows}
    draws = {bands: draw_seconds(bands, int(options.parameters)) for bands in (1, 16)}
    worst = max(found["optimum"] / found["square root"] for found in rows)
    bars = [
        Bar("banded_over_independent_1000_rounds_16_bands", by[1000, 16]["optimum"], 0.3),
        Bar("optimum_over_square_root", worst, 1.0),
        Bar("seconds_for_10000_rounds_64_bands", by[tried[-1], 64]["seconds"], 5.0),
        Bar("draw_of_16_bands_over_independent", draws[16] / draws[1], 3.0),
    ]
    show(rows, bars, options)


if __name__ == "__main__":
    main()
