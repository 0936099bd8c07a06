"""Integer vectors: quantization, rotation, and the ring of their sums."""
