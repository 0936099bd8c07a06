"""One rule a layer: the norms and clipped sums of its per-example gradients."""
