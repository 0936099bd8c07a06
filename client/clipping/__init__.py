"""Per-example gradient clipping: the sum over records of each record's gradient, clipped to the clip norm.

A record is one example. The files, in the order in which a sum uses them:

- `engine`: `make_engine` chooses between `book_keeping`, our own, and `opacus`;
- `validation` looks at the layers and refuses networks whose records cannot be clipped; `gradient_check` finds the
  others by a trial;
- `hooks`: one backward pass that captures activations and output gradients;
- `layers/`: one rule for each kind of layer, which computes per-example gradients, or only their norms (ghost norms),
  from activations and output gradients;
- `clip`: clip factors, and the weighted sum; `accumulate`: the sum over batches;
- `determinism`: what makes a record's gradient independent of the batch that it is in;
- `failed_passes`: a record whose pass fails counts as zero;
- `cross_entropy_head` and `fast_sequential`: faster code for two frequent cases.
"""

from .layers.base import ActivationRule, LayerRule
from .layers.instantiated import InstantiatedGradients
from .layers.registry import register_rule

__all__ = ["ActivationRule", "InstantiatedGradients", "LayerRule", "register_rule"]
