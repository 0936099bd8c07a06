"""The one place where what training made of records becomes what may leave the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..privacy import Clipped, Keystream, Masked, Plan, Update
from ..privacy.encoding.quantization import quantize, round_randomly
from ..privacy.encoding.rotation import rotate
from ..privacy.mechanisms.base import TOLD
from ..privacy.mechanisms.distributed import Distributed
from ..privacy.mechanisms.dropout_noise import layer_noise
from ..privacy.noise.gaussian import gaussian
from ..privacy.noise.skellam import skellam
from ..privacy.secagg.masks import Mask, add_masks


def clip(update: Update, plan: Plan) -> Update:
    """Return a device's whole change of the model, scaled down to the plan's clip norm if it is longer.

    A change with a coordinate that is not finite becomes the zero vector.

    Guarantee: its L2 norm is at most the clip norm, with the margin of `Plan.safe_clip_norm`.
    Reference: McMahan et al. 2018, section 3.
    """
    vector = update.vector.astype(np.float64)
    largest = float(np.abs(vector).max(initial=0.0))
    if not np.isfinite(largest) or largest == 0.0:
        return Update(np.zeros(len(vector)))
    norm = largest * float(np.linalg.norm(vector / largest))
    return Update(vector * min(1.0, plan.safe_clip_norm / norm))


def clip_and_tell(update: Update, plan: Plan) -> Update:
    """Return the clipped change and, where the plan adapts the clip norm, a coordinate that tells if it was within.

    Guarantee: a device that is there or not moves the sum by at most `plan.place.move`.
    Reference: Andrew et al. 2021, algorithm 1; the bit is a coordinate of the same vector, under the same noise.
    """
    clipped = clip(update, plan)
    if not plan.adaptive:
        return clipped
    within = bool(np.linalg.norm(update.vector) <= plan.privacy.clip_norm)
    told = (0.5 if within else -0.5) * TOLD * plan.safe_clip_norm
    return Update(np.append(clipped.vector, told))


TOGETHER = 1 << 16
"""Numbers of noise that are made at once for steps that follow one another: a call costs as much as ten thousand."""


def noises(plan: Plan, count: int, steps: int, draw: Callable[..., Keystream]) -> Iterator[NDArray[np.int64]]:
    """Yield the noise that a device adds to the sum of `count` numbers of one step after another, secret.

    It is made ahead, for as many steps as are few numbers together. `draw` gives the keystream of ("noise", step).
    """
    block = max(1, TOGETHER // count)
    for first in range(0, steps, block):
        rows = min(block, steps - first)
        made = gaussian(plan.noise_std(count) / plan.noise_step, rows * count, draw("noise", first))
        yield from made.reshape(rows, count)


def add_made(update: Update, plan: Plan, noise: NDArray[np.int64]) -> Clipped:
    """Return a clipped sum or change on the plan's finest grid, with noise out of `noises` that nothing else had.

    Guarantee: the result is the Gaussian mechanism of `plan.noise_multiplier` on it.
    """
    made = quantize(update, plan.noise_step)
    np.add(made.vector, noise, out=made.vector)
    return made


def add_noise(update: Update, plan: Plan, noise: Keystream) -> Clipped:
    """Return the same as `add_made`, with noise from a keystream."""
    return add_made(update, plan, next(noises(plan, len(update.vector), 1, lambda *_: noise)))


def add_share(update: Update, plan: Plan, round: int, draws: Keystream, layers: Sequence[bytes] = ()) -> Clipped:
    """Return a clipped sum or change rotated, rounded at random to the plan's grid, with a share of the noise.

    One with a coordinate that is not finite becomes the zero vector. `layers` are the seeds, secret, of the layers of
    noise that the plan's share has on top: one for each of `plan.place.layers`.

    Guarantee: the sum over at least `plan.least_survivors` devices, `plan.colluders` of which tell their shares, is
    the Skellam mechanism of `plan.noise_multiplier`; nothing after the rounding is a floating-point number. Without
    all but the first `plan.place.kept(survivors)` layers of each it still is.
    Reference: Agarwal et al. 2021; Jiang, Wang, Chen 2024 for the layers.

    Raises:
        ValueError: the plan's noise is not distributed, is sized for another number of parameters, or has more or
            fewer layers.
    """
    place = plan.place
    if not isinstance(place, Distributed) or len(update.vector) != plan.parameters + plan.adaptive:
        raise ValueError("shares of noise that the plan has none of, or for another model")
    vector = update.vector if np.isfinite(update.vector).all() else np.zeros(len(update.vector))
    rotated = rotate(vector, plan.rotation(round))
    rounded = round_randomly(rotated, plan.grid_step, draws)
    share = skellam(place.share_variance, len(rounded), draws)
    return Clipped(rounded + share + layer_noise(place.layers, layers, len(rounded)))


def protect(update: Update, plan: Plan) -> Clipped:
    """Return what a device adds to the round's sum, on the plan's grid and within its bound.

    Guarantee: the sum over the plan's cohort cannot overflow the ring.
    """
    return quantize(update, plan.grid_step, plan.bound)


def mask(clipped: Clipped, plan: Plan, masks: Sequence[Mask]) -> Masked:
    """Return the words that leave the device: the vector in the plan's ring, under its masks.

    Guarantee: where the plan's protocol is `secagg` the words are uniformly random to whoever lacks one mask's key.

    Raises:
        ValueError: there are no masks although the plan is secure, or masks although it is not.
    """
    if plan.secure != bool(masks):
        raise ValueError("masks where the plan has none, or none where it has")
    words = plan.ring.encode(clipped.vector)
    add_masks(words, masks)
    return Masked(words)
