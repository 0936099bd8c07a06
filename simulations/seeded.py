"""Randomness that a seed repeats, for studies only: whoever knows the seed can take the noise off again."""

from __future__ import annotations

import hashlib

from ..privacy import Keystream


class SeededEntropy:
    """Keys derived from a seed and the purpose, so that a run is a function of (plan, seed)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def keystream(self, *purpose: str | int) -> Keystream:
        """Return the keystream of one purpose: the same whenever seed and purpose are the same."""
        text = "\x1f".join(["bract simulation", str(self.seed), *(str(part) for part in purpose)])
        return Keystream(hashlib.sha256(text.encode()).digest())
