"""The last step before an update leaves the device: the ring, and the masks."""

from __future__ import annotations

from collections.abc import Sequence

from ..privacy import Contribution, Mechanism, Upload
from ..privacy.secagg.masks import Mask, add_masks


def mask(contribution: Contribution, mechanism: Mechanism, masks: Sequence[Mask]) -> Upload:
    """Return the words that leave the device: the contribution in the plan's ring, under its masks.

    Guarantee: where the plan's protocol is `secagg` the words are uniformly random to whoever lacks one mask's key.

    Raises:
        ValueError: there are no masks although the plan is secure, or masks although it is not.
    """
    if mechanism.plan.secure != bool(masks):
        raise ValueError("masks where the plan has none, or none where it has")
    words = mechanism.ring.encode(contribution.vector)
    add_masks(words, masks)
    return Upload(words)
