"""The last step before a contribution leaves the device: it is encoded in the ring and masked."""

from __future__ import annotations

from collections.abc import Sequence

from ..privacy import Contribution, Mechanism, Upload
from ..privacy.secagg.masks import Mask, add_masks


def mask(contribution: Contribution, mechanism: Mechanism, masks: Sequence[Mask]) -> Upload:
    """Return the words that leave the device: the contribution in the plan's ring, under its masks.

    Guarantee: with the protocol `secagg` the words are uniformly random to everyone who lacks one mask's key.

    Raises:
        ValueError: there are no masks although the plan is secure, or masks although it is not.
    """
    if mechanism.plan.secure != bool(masks):
        raise ValueError("masks are given for a plan without masks, or missing for a plan with masks")
    words = mechanism.grid.ring.encode(contribution.vector)
    add_masks(words, masks)
    return Upload(words)
