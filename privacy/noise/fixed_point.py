"""Fixed-point numbers: integers in units of 2^-192. Arithmetic on them is the same on every machine."""

from __future__ import annotations

PRECISION = 192
"""The number of bits after the point."""

ONE = 1 << PRECISION
