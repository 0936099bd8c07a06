"""Per-example gradient clipping: the sum over records of each record's gradient, clipped to the clip norm.

A record is an example. To find your way, in the order of a sum:

- `engine`: `make_engine` chooses between `book_keeping`, our own, and `opacus`;
- `validation` refuses networks whose records cannot be clipped, by their layers; `gradient_check` by a trial;
- `hooks`: one backward pass that captures activations and output gradients;
- `layers/`: one rule a layer, which makes per-example gradients, or their norms alone (ghost norms), from these;
- `clip`: clip factors, and the weighted sum; `accumulate`: the sum over batches;
- `determinism`: what makes a record's gradient independent of the batch that it is in;
- `failed_passes`: what becomes of a record whose pass fails;
- `cross_entropy_head` and `fast_sequential` make two frequent cases faster.
"""
