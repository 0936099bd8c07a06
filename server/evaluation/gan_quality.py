"""The server's part for a generative network: it trains the parts that devices do not, and evaluates the samples."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...models import build, find_network, load_flat, read_flat
from ...models.networks.gan import Gan
from ...privacy import Keystream, Plan

MOST_RECORDS = 1000
"""The most test records that are compared with as many generated ones."""

DIRECTIONS = 32
"""The number of random projections for means and covariances, if a record has more dimensions."""

NEIGHBOUR = 5
"""The rank of the nearest neighbour whose distance is the radius around a test record."""

SEED = 0
"""The seed of the generated records that are compared, and of the projections."""


def refine(
    plan: Plan, before: NDArray[np.float32], stepped: NDArray[np.float32], keystream: Keystream
) -> NDArray[np.float32]:
    """Return the parameters, float32 [parameters], after a round; its optimizer step went from `before` to `stepped`.

    Parts of a network that no device trains receive only noise from a release, so they are reset to `before` and then
    trained here. A network without such parts gets `stepped`.

    Guarantee: it uses only what was released.
    """
    train = find_network(plan.model.name).refine
    if train is None:
        return stepped
    model = _model(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, np.where(trained(model), stepped, before))
    train(model, int(keystream.words(1)[0] >> 1))
    return read_flat(model)


def trained(model: nn.Module) -> NDArray[np.bool_]:
    """Return the mask of the parameters that devices train, bool [parameters], in the order of `read_flat`."""
    return np.concatenate([np.full(p.numel(), p.requires_grad) for p in model.parameters()])


@lru_cache(maxsize=1)
def _model(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    return build(name, shape, classes)


def figures(model: Gan, features: NDArray[np.float32]) -> dict[str, float]:
    """Return the distance and coverage of generated records with respect to test records, float32 [records, *shape].

    `distance` is the Fréchet distance over the variance of the test records, see `distance`. The best is 0, a
    generator of only the mean record gets 1, and one with diverged parameters infinity. `coverage` is the fraction of
    test records with a generated record near them, see `coverage`; the best is 1.
    """
    true = features[:MOST_RECORDS].reshape(len(features[:MOST_RECORDS]), -1).astype(np.float64)
    made = model.make(len(true), SEED).flatten(1).double().cpu().numpy()
    if not np.isfinite(made).all():
        return {"distance": math.inf, "coverage": 0.0}
    return {"distance": distance(true, made), "coverage": coverage(true, made)}


def distance(true: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Return |m - n|^2 + tr(S + T - 2 (S T)^(1/2)) over tr S, with means m, n and covariances S, T of two samples.

    Samples are [records, numbers]. If they have more than `DIRECTIONS` columns, they are projected on `DIRECTIONS`
    fixed random directions. Two halves of one sample have a small distance above 0, which grows as they get smaller.

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
    """Return the fraction of true records that are closer to a generated record than to their fifth neighbour.

    Both samples are [records, numbers]. With fewer than six true records, the farthest one counts as the fifth.

    Reference: Naeem et al. 2020, equation 8.
    """
    one, other = torch.from_numpy(true), torch.from_numpy(made)
    near = torch.cdist(one, one).sort(1).values[:, min(NEIGHBOUR, len(one) - 1)]
    return float((torch.cdist(one, other).amin(1) < near).double().mean())
