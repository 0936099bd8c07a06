"""Reproducible randomness, for studies only: someone who knows the seed can subtract the noise."""

from __future__ import annotations

import hashlib

from ..privacy import Keystream


class SeededEntropy:
    """Derives keys from a seed and a purpose, so that a run is a function of (plan, seed)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def keystream(self, *purpose: str | int) -> Keystream:
        """Return the keystream of one purpose: a function of seed and purpose."""
        text = "\x1f".join(["bract simulation", str(self.seed), *(str(part) for part in purpose)])
        return Keystream(hashlib.sha256(text.encode()).digest())
