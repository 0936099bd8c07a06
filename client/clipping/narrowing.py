"""What a device does when a pass through the network fails: it finds the record, which then counts as zero.

A sum that is sent only if no record failed would tell, without noise, whether such a record is there; zeros in place
of the whole sum would let one record move it by the shares of all others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..records import Records

log = logging.getLogger("bract.client")

Made = TypeVar("Made")
Faulty = Callable[[int, Exception], None]
"""Is told the place, in the batch, of a record whose pass failed, and why."""


def tell(place: int, fault: Exception) -> None:
    """Say so in the owner's log, which nobody else reads."""
    log.warning("record %d of the sample counts for nothing: its pass failed", place, exc_info=fault)


def narrowed(chunks: Iterable[Records], make: Callable[[Records], Made], faulty: Faulty) -> Iterator[Made]:
    """Yield what `make` gives for each chunk; where it fails, for each of the chunk's records alone that does not."""
    start = 0
    for chunk in chunks:
        try:
            made = [make(chunk)]
        except Exception as fault:
            log.warning("a pass over %d records failed (%s), each is passed alone", len(chunk), type(fault).__name__)
            made = _alone(chunk, make, lambda place, fault, first=start: faulty(first + place, fault))
        yield from made
        start += len(chunk)


def _alone(chunk: Records, make: Callable[[Records], Made], faulty: Faulty) -> Iterator[Made]:
    for place in range(len(chunk)):
        part = slice(place, place + 1)
        try:
            yield make(Records(chunk.features[part], chunk.labels[part]))
        except Exception as fault:
            faulty(place, fault)


def like(batch: Records) -> Records:
    """Return a made-up record of the batch's shape and kind, of ones."""
    one = Records(batch.features[:0], batch.labels[:0]).filled(1)
    return Records(one.features.fill_(1), one.labels.fill_(1))
