"""The round's sum in the clear: the server sees each device's vector. For trusted servers, and to simulate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...privacy import Sum
from ...privacy.messages import TRAIN
from ..answers import Answers, too_few
from ..exchange import Request, exchange
from .base import Call, Collected, Link


class PlainSum:
    """Offers the round to the cohort and adds up what comes back."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def prepared(self, round: int) -> None:
        """Return None: nothing has to be prepared."""

    def collect(self, call: Call, cohort: Sequence[int]) -> Collected:
        """Return the exact sum of the updates, folded as they arrive.

        Where devices noise their own updates, the offer is the release: it is paid for first, for the whole cohort.
        Where it is in the sum, or the server adds it, what is then released is paid for by those who are in it.
        """
        link, mechanism = self._link, self._link.mechanism
        plan, ring = mechanism.plan, mechanism.ring
        if mechanism.noised_alone:
            call.charge(cohort)
        count = mechanism.coordinates(len(call.parameters))
        total = np.zeros(ring.words(count), dtype=np.uint64)
        survivors: list[int] = []
        answers = Answers()
        requests = [Request(node, TRAIN, call.round, scale=call.scale) for node in cohort]
        for answer in exchange(link.grid, mechanism, requests, call.parameters, plan.cohort.deadline):
            answers.take(answer)
            if answer.update is not None:
                total += answer.update
                survivors.append(answer.node)
            if not answer.late:
                link.answered()
        link.tell(call.round, answers)
        if len(survivors) < plan.least_survivors:
            trained = set(cohort) - answers.untouched
            raise too_few(
                len(survivors),
                len(cohort),
                plan.least_survivors,
                answers,
                took_part=trained,
                paid=mechanism.noised_alone,
            )
        if not mechanism.noised_alone:
            call.charge(survivors)
        return Collected(Sum(ring.decode(total, count)), sorted(cohort), sorted(survivors), answers.codes)
