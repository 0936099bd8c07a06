"""The places where noise is added: sensitivity, grid, noise scale and cost of each."""
