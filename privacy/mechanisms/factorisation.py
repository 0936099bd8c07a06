"""The banded Toeplitz factorisation of the running sums of training, by which noise is correlated over rounds.

Where clients come when they like, no sampling amplifies anything, and each round's noise stays in the model for good.
What counts is the noise in the running sums A x of the rounds' sums x, A being ones on and below the diagonal. With A
= B C the server releases x + C^-1 z, whose running sums carry B z: far less than A z if C is chosen well. C is lower
triangular and `bands` wide: a round's noise is made of fresh noise and of that of the `bands - 1` rounds before.

Guarantee: a unit whose rounds lie `bands` apart at least pays for each of them one Gaussian mechanism of the noise
multiplier z, as it would under independent noise. Its contributions, each of norm one sensitivity at most, may depend
on all that was released. Proof: releases are a function of s_t = c_0 x_t + ... + c_(b-1) x_(t-b+1) + z_t, as C has an
inverse. Given the past, the unit moves the mean of s_t by c_(t-u) times its contribution of round u, where u is the
only one of its rounds within the last `bands`; z_t has standard deviation z |c| sensitivities. So round t is a
Gaussian mechanism of multiplier z |c| / |c_(t-u)| at least. Their inverse squares add up, adaptively (Dong, Roth, Su
2022), and over the rounds from u on they come to sum c_i^2 / (z |c|)^2 = 1 / z^2 at most. Paid for in round u, it is
paid ahead.

Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization; McKenna 2024, Scaling up the Banded
Matrix Factorization Mechanism; Denisov et al. 2022, theorem 2.1, for adaptive streams.
"""

# The library below ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..noise.gaussian import MOST_STD

MOST_BANDS = 64
"""The widest factorisation: the server keeps one noise vector a band."""

LEAST_BITS, MOST_BITS = 8, 16
"""How finely coefficients become whole numbers: the first of them is this power of two."""

LEAST_RATIO = 1e-3
"""The least a coefficient may be of the one before it; it is also at most the one before."""

HORIZON = 20_000
"""The most rounds that coefficients are sought for: those of longer trainings are the same."""

Floats = NDArray[np.float64]


def workload(rounds: int, momentum: float = 0.0) -> Floats:
    """Return, shape [rounds], how much of a round's sum is in the model 0, 1, ... rounds later; public.

    All of it where the server takes plain steps. With momentum m the j-th later model has 1 + m + ... + m^j of it.

    >>> workload(3).tolist(), workload(3, 0.5).tolist()
    ([1.0, 1.0, 1.0], [1.0, 1.5, 1.75])
    """
    return np.cumsum(momentum ** np.arange(rounds, dtype=np.float64))


def square_root(bands: int, momentum: float = 0.0) -> Floats:
    """Return the first `bands` coefficients, shape [bands], of the lower triangular Toeplitz matrix C = A^(1/2).

    Without momentum these are f_0 = 1, f_k = f_(k-1) (1 - 1/(2k)): the factorisation B = C.

    Reference: Fichtenberger, Henzinger, Upadhyay 2022.

    >>> square_root(4).tolist()
    [1.0, 0.5, 0.375, 0.3125]
    """
    power, root = workload(bands, momentum), np.ones(bands)
    for k in range(1, bands):
        root[k] = (power[k] - root[1:k] @ root[k - 1 : 0 : -1]) / 2
    return root


@lru_cache(maxsize=64)
def coefficients(rounds: int, bands: int, momentum: float = 0.0) -> Floats:
    """Return the coefficients c, shape [bands], of norm 1, that bring the least mean square error over `rounds`.

    They fall from positive c_0 to positive c_(bands-1), so no root of their polynomial lies inside the unit circle
    (Kakeya 1912) and C^-1 does not blow up. Found by L-BFGS-B over the ratios of each to the one
    before, from the truncated square root: under a second for 10,000 rounds and 64 bands. Public, and read only.

    Raises:
        ValueError: there are no bands, more than `MOST_BANDS`, or more than rounds.
    """
    if not 1 <= bands <= min(rounds, MOST_BANDS):
        raise ValueError(f"expected 1 to {min(rounds, MOST_BANDS)} bands, got {bands}")
    root = square_root(bands, momentum)
    ratios = root[1:] / root[:-1]
    if bands > 1:
        from scipy.optimize import minimize  # here, for it is slow to load and few plans need it

        found: Any = minimize(
            _loss,
            ratios,
            args=(workload(min(rounds, HORIZON), momentum),),
            jac=True,
            method="L-BFGS-B",
            bounds=[(LEAST_RATIO, 1.0)] * (bands - 1),
            options={"maxiter": 300, "ftol": 1e-9, "gtol": 1e-7, "maxcor": 20},
        )
        ratios = cast(Floats, found.x)
    free = _from_ratios(ratios)
    c = (free / math.hypot(*free)).astype(np.float64)
    c.flags.writeable = False
    return c


def _from_ratios(ratios: Floats) -> Floats:
    return np.cumprod(np.concatenate([np.ones(1), ratios]), dtype=np.float64)


def _divide(series: Floats, c: Floats) -> Floats:
    """Return the power series divided by the polynomial c: C^-1 times a vector, in O(rounds bands)."""
    from scipy.signal import lfilter  # here, as above

    return cast(Floats, lfilter(np.ones(1), c, series))


def _loss(ratios: Floats, power: Floats) -> tuple[float, Floats]:
    """Return the logarithm of the mean square error of the running sums, and its gradient by the ratios.

    With beta = A c^-1, the first column of B, it is log(|c|^2 sum_k (1 - k / rounds) beta_k^2). As c beta is fixed,
    the derivative of the sum by c_j is -2 sum_k lambda_k beta_(k-j), where C^T lambda = (1 - k / rounds) beta.
    """
    c, rounds = _from_ratios(ratios), len(power)
    share = 1 - np.arange(rounds) / rounds
    beta = _divide(power, c)
    adjoint = _divide((share * beta)[::-1], c)[::-1]
    error, norm = float(share @ beta**2), float(c @ c)
    slope = np.array([adjoint[j:] @ beta[: rounds - j] for j in range(1, len(c))])
    by_coefficient = 2 * c[1:] / norm - 2 * slope / error
    by_ratio = np.cumsum((by_coefficient * c[1:])[::-1])[::-1] / ratios
    return math.log(norm * error), by_ratio


def deviations(c: Sequence[float] | NDArray[Any], rounds: int, momentum: float = 0.0) -> Floats:
    """Return the standard deviation of a coordinate's noise in the model after each round, shape [rounds]; public.

    In units of the noise that the same noise multiplier adds to one sum; coefficients of any scale.

    >>> deviations([1.0], 4).round(3).tolist()
    [1.0, 1.414, 1.732, 2.0]
    """
    whole = np.asarray(c, dtype=np.float64)
    beta = _divide(workload(rounds, momentum), whole / whole[0])
    return np.sqrt(np.cumsum(beta**2)) * math.hypot(*(whole / whole[0]))


@lru_cache(maxsize=64)
def release_deviation(rounds: int, bands: int, momentum: float = 0.0) -> float:
    """Return the largest standard deviation of a coordinate's noise in one release, in the same units; public.

    It is more than 1: what a release has more than an independent one, later ones take back.

    >>> release_deviation(50, 1), round(release_deviation(50, 4), 2)
    (1.0, 1.77)
    """
    c = coefficients(rounds, bands, momentum)
    own = np.zeros(min(rounds, HORIZON))
    own[0] = 1.0
    return math.hypot(*(c / c[0])) * math.sqrt(np.square(_divide(own, c / c[0])).sum())


def relative_error(rounds: int, bands: int, momentum: float = 0.0) -> float:
    """Return the root mean square, over rounds, of the noise in the model, divided by that of independent noise."""
    banded, independent = (deviations(c, rounds, momentum) for c in (coefficients(rounds, bands, momentum), [1.0]))
    return math.sqrt((banded @ banded) / (independent @ independent))


def whole_weights(c: Floats, std: float) -> NDArray[np.int64]:
    """Return coefficients in the ratios of c, int64 [bands], as whole numbers, the first a power of two; public.

    They are as fine as fresh noise can be made for: it has `std` times their norm. `std` is that of the independent
    noise they stand in for, in steps of the grid.

    Raises:
        ValueError: `std` leaves them too coarse.
    """
    for bits in range(MOST_BITS, LEAST_BITS - 1, -1):
        weights = np.rint(c / c[0] * 2.0**bits).astype(np.int64)
        if std * weights_norm(weights) <= MOST_STD:
            return weights
    raise ValueError(f"noise of {std:g} steps is too much for a grid this fine")


def weights_norm(weights: NDArray[np.int64]) -> float:
    """Return the L2 norm of whole numbers."""
    return math.sqrt(sum(weight**2 for weight in weights.tolist()))
