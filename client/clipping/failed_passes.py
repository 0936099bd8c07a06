"""A record whose pass through the network fails counts as zero; the other records still count.

If a device sent no sum because a record failed, the server would learn, without noise, that such a record exists. If
it sent zeros in place of the whole sum, one record would change the sum by the gradients of all others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..records import Records

log = logging.getLogger("bract.client")

Passed = TypeVar("Passed")
OnFailure = Callable[[int, Exception], None]
"""Called with the batch index of a record whose pass failed, and with the exception."""


def log_failure(place: int, fault: Exception) -> None:
    """Log the failure to the owner's log, which nobody else reads."""
    log.warning("record %d of the sample counts for nothing: its pass failed", place, exc_info=fault)


def without_failures(
    chunks: Iterable[Records], one_pass: Callable[[Records], Passed], on_failure: OnFailure
) -> Iterator[Passed]:
    """Yield the results of passes over chunks. If a pass fails, its records are passed one by one.

    `on_failure` is called for each record whose own pass fails; this record is left out.
    """
    start = 0
    for chunk in chunks:
        try:
            results = [one_pass(chunk)]
        except Exception as fault:
            log.warning("a pass over %d records failed (%s), each is passed alone", len(chunk), type(fault).__name__)
            results = _one_by_one(chunk, one_pass, lambda place, fault, first=start: on_failure(first + place, fault))
        yield from results
        start += len(chunk)


def _one_by_one(chunk: Records, one_pass: Callable[[Records], Passed], on_failure: OnFailure) -> Iterator[Passed]:
    for place in range(len(chunk)):
        part = slice(place, place + 1)
        try:
            yield one_pass(Records(chunk.features[part], chunk.labels[part]))
        except Exception as fault:
            on_failure(place, fault)


def made_up_record(batch: Records) -> Records:
    """Return one record of ones, of the batch's shape and dtype: it holds no value of a real record."""
    one = Records(batch.features[:0], batch.labels[:0]).filled(1)
    return Records(one.features.fill_(1), one.labels.fill_(1))
