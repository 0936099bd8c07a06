"""Who takes part in a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..privacy import Keystream


def choose_cohort(
    available: Sequence[int], participations: Counter[int], size: int, limit: int, keystream: Keystream
) -> list[int]:
    """Return at most `size` of the available clients, those with the fewest rounds so far, ties at random; sorted.

    None that took part `limit` times is chosen. While all clients are available, counts differ by at most one, so
    no client takes part more than ceil(rounds * size / clients) times: `Plan.participations`, which the noise is
    sized for.
    """
    order = [available[i] for i in keystream.permutation(len(available))]
    eligible = [client for client in order if participations[client] < limit]
    return sorted(sorted(eligible, key=lambda client: participations[client])[:size])
