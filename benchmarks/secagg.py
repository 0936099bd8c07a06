"""Secure aggregation against flwr's SecAgg+: the time of a device, a survivor and a dropout; keystream; upload.

There are 21 devices in a complete graph (20 neighbours each), 11 shares open a secret, and sums are modulo 2^16. Each
library runs its own functions. On a device we time everything from the trained update to the bytes sent; on the
server, the extra work for one survivor or one dropout. Only as many shares of a secret are combined as needed,
although flwr's workflow combines all that it has. Our server unmasks a whole round at once, so a survivor's time is a
21st of the round's. Both sums are checked. Steps take turns; times are medians.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable

import numpy as np
from _bars import Bar, arguments, options_of, show
from _secagg_bract import Bract
from _secagg_flwr import Flwr

from bract.privacy.secagg.masks import Mask, add_masks, ctr_stream, gcm_stream

DEVICES, THRESHOLD, MODULUS = 21, 11, 1 << 16
JUDGED = 10**6
KEYSTREAM_BYTES = 1 << 24
CHUNKS = tuple(1 << power for power in range(14, 21))

Row = dict[str, int | float | str]


def seconds(work: Callable[[], object]) -> float:
    """Return the time of `work` in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(dimension: int, check: bool) -> tuple[list[Row], Bract]:
    """Return the rows of one dimension, and our devices and server."""
    update = np.random.default_rng(0).normal(size=dimension).astype(np.float32)
    ours, theirs = Bract(DEVICES, update), Flwr(DEVICES, THRESHOLD, MODULUS, update)
    if check:
        ours.check()
        theirs.check()
    ours.prepare_server()
    theirs.prepare_server()
    pairs = {
        "client step": (ours.client_step, theirs.client_step, 1),
        "client, all of it": (ours.client_message, theirs.client_message, 1),
        "server, a survivor": (ours.survivors, theirs.survivor, DEVICES),
        "server, a dropout": (ours.dropout, theirs.dropout, 1),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    for _ in range(max(5, min(20, 2 * 10**7 // dimension))):
        for name, (mine, other, share) in pairs.items():
            times[name].append((seconds(mine) / share, seconds(other)))
    medians = {name: map(statistics.median, zip(*taken, strict=True)) for name, taken in times.items()}
    return [row(dimension, name, *both) for name, both in medians.items()], ours


def row(dimension: int, name: str, mine: float, other: float) -> Row:
    """Return the row of one step, from both sides' seconds."""
    figures = {"bract ms": 1e3 * mine, "flwr ms": 1e3 * other, "ratio": mine / other, "1 /": other / mine}
    return {"parameters": dimension, "step": name, **figures}


def keystream_share(words: int, repeats: int = 40) -> float:
    """Return the mask step's best rate of keystream, divided by this machine's best AES-256 rate."""
    vector = np.zeros(words, dtype=np.uint64)
    masks = [Mask(secrets.token_bytes(32), -1 if place % 2 else 1) for place in range(DEVICES)]
    best = used = 0.0
    for _ in range(repeats):
        used = max(used, DEVICES * vector.nbytes / seconds(lambda: add_masks(vector, masks)))
        best = max(best, *(keystream(kind, size) for kind in (gcm_stream, ctr_stream) for size in CHUNKS))
    print(f"keystream: {used / 1e9:.3g} GB/s used by the mask step, {best / 1e9:.3g} GB/s at best")
    return used / best


def keystream(kind: Callable[[bytes], object], size: int) -> float:
    """Return the bytes per second of keystream that is generated in pieces of `size` bytes and discarded."""
    stream, blank, made = kind(secrets.token_bytes(32)), bytes(size), bytearray(size)

    def work() -> None:
        for _ in range(KEYSTREAM_BYTES // size):
            stream.update_into(blank, made)

    return KEYSTREAM_BYTES / seconds(work)


def judge(rows: list[Row], ours: Bract, dimension: int) -> list[Bar]:
    """Return the bars, from the rows of the judged dimension."""
    client, _, survivor, dropout = (float(row["ratio"]) for row in rows)
    upload = ours.upload()
    print(f"upload: {upload} bytes for {dimension} parameters, {upload - 2 * dimension} beside the words")
    return [
        Bar("client_step_d1e6", client, 1 / 10),
        Bar("server_survivor_d1e6", survivor, 1 / 30),
        Bar("server_dropout_d1e6", dropout, 1 / 30),
        Bar("keystream_share", keystream_share(len(ours.total)), 0.6, at_least=True),
        Bar("upload_bytes_per_param", upload / dimension, 2.0 + 5000 / dimension),
    ]


def main() -> None:
    """Compare in each dimension. Only a million parameters are judged against the bars."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--dims", type=float, nargs="+", default=[1e5, 1e6, 1e7], help="numbers of parameters")
    options = options_of(parser, dims=[1e3])
    rows: list[Row] = []
    bars: list[Bar] = []
    for place, dimension in enumerate(map(int, options.dims)):
        compared, ours = compare(dimension, check=place == 0)
        rows += compared
        if dimension == JUDGED or options.quick:
            bars = judge(compared, ours, dimension)
    show(rows, bars, options)


if __name__ == "__main__":
    main()
