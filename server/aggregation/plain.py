"""Aggregation in the clear: the server sees each device's vector. It is for trusted servers and simulations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...privacy import Sum
from ...privacy.messages import TRAIN
from ..answers import Answers, too_few
from ..exchange import Request, exchange
from .base import DeviceLink, RoundInput, RoundSum


class PlainSum:
    """A collector that offers the round to the cohort and adds up the answers."""

    def __init__(self, link: DeviceLink) -> None:
        self._link = link

    def prepared(self, round: int) -> None:
        """Return None, because there is nothing to prepare."""

    def collect(self, call: RoundInput, cohort: Sequence[int]) -> RoundSum:
        """Return the exact sum of the uploads, each added when it arrives.

        If each device adds full noise to its own upload, the upload is the release, so the whole cohort is charged
        before the offer. Else only the devices in the sum are charged, before it is returned.
        """
        link, mechanism = self._link, self._link.mechanism
        plan, ring = mechanism.plan, mechanism.grid.ring
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
        return RoundSum(Sum(ring.decode(total, count)), sorted(cohort), sorted(survivors), answers.codes)
