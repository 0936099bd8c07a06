"""Vectors of whole numbers: quantization, rotation, and the ring that sums are taken in."""
