"""What the server does for a network that makes records: it trains what devices do not, and measures what is made."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models import REFINES, build, load_flat, read_flat
from ...models.gan import Gan
from ...privacy import Keystream, Plan

MOST = 1000
"""Test records, and as many made ones, that are compared at most."""

DIRECTIONS = 32
"""Directions along which means and covariances are compared, where a record has more numbers."""

NEIGHBOUR = 5
"""Which nearest true record says how near is near."""

SEED = 0
"""Seed of the made records that are compared, and of the directions."""


def refine(
    plan: Plan, before: NDArray[np.float32], stepped: NDArray[np.float32], keystream: Keystream
) -> NDArray[np.float32]:
    """Return the parameters, float32 [parameters], after a round that made `stepped` of `before`.

    For a network with parts that no device trains, noise is all that a release holds of these: they are as before,
    and then trained here. For any other they are `stepped`.

    Guarantee: of the data it sees what was released, and nothing else.
    """
    name = plan.model.name
    if name not in REFINES:
        return stepped
    model = _model(name, plan.data.shape, plan.data.classes)
    load_flat(model, np.where(trained(model), stepped, before))
    REFINES[name](model, int(keystream.words(1)[0] >> 1))
    return read_flat(model)


def trained(model: nn.Module) -> NDArray[np.bool_]:
    """Return which parameters devices train, bool [parameters], in the order of `read_flat`."""
    return np.concatenate([np.full(p.numel(), p.requires_grad) for p in model.parameters()])


@lru_cache(maxsize=1)
def _model(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    return build(name, shape, classes)


def figures(model: Gan, features: NDArray[np.float32]) -> dict[str, float]:
    """Return how far what the generator makes is from test records, float32 [records, *shape]; both may be public.

    `distance` is the Fréchet distance over the test records' variance, see `distance`: 0 is best, one who always
    makes the mean record is at 1, and one whose parameters ran away is at infinity. `coverage` is the share of test
    records that made ones come near to, see `coverage`: 1 is best.
    """
    true = features[:MOST].reshape(len(features[:MOST]), -1).astype(np.float64)
    made = model.make(len(true), SEED).flatten(1).double().cpu().numpy()
    if not np.isfinite(made).all():
        return {"distance": math.inf, "coverage": 0.0}
    return {"distance": distance(true, made), "coverage": coverage(true, made)}


def distance(true: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Return |m - n|^2 + tr(S + T - 2 (S T)^(1/2)) over tr S, with means m, n and covariances S, T of two samples.

    Of records [records, numbers] with more than `DIRECTIONS` numbers, so many random directions, always the same
    ones, are looked at. Two halves of one sample are not quite at 0, the less so the smaller they are.

    Reference: Dowson & Landau 1982; Heusel et al. 2017, equation 6.
    """
    one, other = (sample @ _directions(true.shape[1]) for sample in (true, made))
    spread, spread_made = (np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (one, other))
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ spread_made @ root).clip(0)).sum()
    apart = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(spread) + np.trace(spread_made) - 2 * common
    return float(apart / np.trace(spread))


def _directions(numbers: int) -> NDArray[np.float64]:
    """Return orthonormal columns [numbers, directions]."""
    if numbers <= DIRECTIONS:
        return np.eye(numbers)
    return np.linalg.qr(np.random.default_rng(SEED).normal(size=(numbers, DIRECTIONS)))[0]


def coverage(true: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Return the share of true records that have a made one nearer than their fifth nearest true one.

    Both are [records, numbers]; of few true records it is their farthest. Reference: Naeem et al. 2020, equation 8.
    """
    one, other = torch.from_numpy(true), torch.from_numpy(made)
    near = torch.cdist(one, one).sort(1).values[:, min(NEIGHBOUR, len(one) - 1)]
    return float((torch.cdist(one, other).amin(1) < near).double().mean())
