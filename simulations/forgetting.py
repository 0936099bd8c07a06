"""What is let go of when a round is over: a simulation takes no more memory for many rounds than for a few.

A real device remembers for good what it did, so that a server that lies cannot have it done twice. Simulated ones
live in one process with the server, and need to remember the round to come alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..client.memory.step_journal import MemoryJournal
from ..privacy.secagg.identity import verified
from ..privacy.secagg.keys import read_card

SHOWN = 2
"""Cards that a device may still be asked about: that of the round under way, and that of the next."""


def forget_rounds(journals: Iterable[MemoryJournal]) -> None:
    """Forget what simulated devices noted of rounds that are over, and what was computed of their cards."""
    for journal in journals:
        pages = journal.pages
        pages.steps.clear()
        pages.shown.clear()  # a device's limit a day is for a server that it does not know
        for session in list(pages.cards)[:-SHOWN]:
            del pages.cards[session]
    for computed in (read_card, verified):
        computed.cache_clear()
