"""Per-example gradient clipping: sums of clipped gradients without one gradient per record in memory."""
