"""Per-record gradients by book-keeping: rules for layers, and the engine that runs them."""
