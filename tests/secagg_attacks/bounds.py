"""What docs/secure-aggregation.md promises of a sum that opens, computed here from a plan's keys and nothing else."""

from __future__ import annotations

import math
from fractions import Fraction

from bract.client.terms import Terms
from bract.privacy import Plan


def threshold(planned: int, colluders: int) -> int:
    """T: more than half of the planned cohort and the colluders together."""
    return (planned + colluders) // 2 + 1


def least_sum(plan: Plan, terms: Terms) -> int:
    """S: the fewest devices, honest or not, that any sum of the plan opens over."""
    size, wanted = plan.cohort.size, terms.min_survivors or 2
    present = size - math.floor(plan.aggregation.dropouts * size) if plan.privacy.noise == "distributed" else 0
    return max(threshold(size, plan.colluders), plan.cohort.minimum, present, wanted)


def least_honest(plan: Plan, terms: Terms, seated: int) -> int:
    """The fewest honest devices in a sum that opens, whatever a server does that seats so many, colluders too."""
    least, colluders = least_sum(plan, terms), plan.colluders
    if plan.malicious:
        return least - colluders
    return least_honest_of(seated, colluders, threshold(plan.cohort.size, colluders), least)


def least_honest_of(seated: int, colluders: int, shares: int, least: int) -> int:
    """The same in semi-honest mode: two lists of survivors may be told.

    Who is left out of a sum must have its mask keys opened: T - c honest devices take it for a dropout, and each of
    the m - c that there are takes m - S at most for one. So (m - c)(m - S) / (T - c) honest devices are left out at
    most.
    """
    left = (seated - colluders) * (1 - Fraction(seated - least, shares - colluders))
    return min(math.ceil(left), least - colluders)
