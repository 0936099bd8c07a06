"""Discards what simulated devices remember of finished rounds, so that memory does not grow with the rounds.

A real device keeps this forever, so that a lying server cannot make it repeat a step. Simulated devices share a
process with the server and only need what the next round uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..client.disk.step_journal import MemoryJournal
from ..privacy.secagg.identity import verified
from ..privacy.secagg.keys import read_card

KEPT_CARDS = 2
"""Cards that each device keeps: one for the current round, one for the next."""


def forget_rounds(journals: Iterable[MemoryJournal]) -> None:
    """Delete the devices' notes of finished rounds, and the cached results for their cards."""
    for journal in journals:
        pages = journal.pages
        pages.steps.clear()
        pages.shown.clear()  # the daily limit of a device protects against an unknown server
        for session in list(pages.cards)[:-KEPT_CARDS]:
            del pages.cards[session]
    for cached in (read_card, verified):
        cached.cache_clear()
