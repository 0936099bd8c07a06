"""The banded Toeplitz factorisation of the running sums of training, with which noise is correlated over rounds.

Client-level plans have no amplification by sampling, and each round's noise stays in the model. What counts is the
noise in the running sums A x of the rounds' sums x, where A has ones on and below the diagonal. With A = B C the
server releases x + C^-1 z. The noise in the running sums is then B z, much less than A z if C is chosen well. C is
lower triangular with `bands` diagonals, so a round's noise depends on fresh noise and on the noise of the
`bands - 1` rounds before.

Guarantee: a unit whose rounds lie at least `bands` apart pays for each of them one Gaussian mechanism of the noise
multiplier z, as it would under independent noise. Its contributions, each of norm at most one sensitivity, may depend
on all earlier releases.

Proof: as C has an inverse, releases are a function of s_t = c_0 x_t + ... + c_(b-1) x_(t-b+1) + z_t, where z_t has
standard deviation z |c| sensitivities. Let u be the only round of the unit within the last `bands` rounds. Given the
past, the unit moves the mean of s_t by c_(t-u) times its contribution in round u. So round t is a Gaussian mechanism
of multiplier at least z |c| / |c_(t-u)|. The inverse squares of multipliers add up, also adaptively (Dong, Roth, Su
2022). Over the rounds from u on, their sum is at most sum c_i^2 / (z |c|)^2 = 1 / z^2. The unit pays it in round u,
in advance.

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
from .correlation import weights_norm

MOST_BANDS = 64
"""The largest number of bands. The server stores one noise vector for each band but the first."""

LEAST_BITS, MOST_BITS = 8, 16
"""The precision of the integer weights: the first weight is 2 to a power between these two."""

LEAST_RATIO = 1e-3
"""The least ratio of a coefficient to the one before; the largest is 1."""

HORIZON = 20_000
"""The most rounds for which coefficients are optimized. Longer trainings use the coefficients of this many rounds."""

Floats = NDArray[np.float64]


def workload(rounds: int, momentum: float = 0.0) -> Floats:
    """Return, shape [rounds], the factor of a round's sum in the model 0, 1, ... rounds later; public.

    It is 1 if the server takes plain steps. With momentum m it is 1 + m + ... + m^j in the model j rounds later.

    >>> workload(3).tolist(), workload(3, 0.5).tolist()
    ([1.0, 1.0, 1.0], [1.0, 1.5, 1.75])
    """
    return np.cumsum(momentum ** np.arange(rounds, dtype=np.float64))


def square_root(bands: int, momentum: float = 0.0) -> Floats:
    """Return the first `bands` coefficients, shape [bands], of the lower triangular Toeplitz matrix C = A^(1/2).

    Without momentum they are f_0 = 1, f_k = f_(k-1) (1 - 1/(2k)). This is the factorisation B = C.

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
    """Return the coefficients c, shape [bands], of norm 1, with the least mean square error over `rounds`.

    They are positive and do not increase, so no root of their polynomial lies inside the unit circle (Kakeya 1912)
    and C^-1 does not blow up. L-BFGS-B optimizes the ratios of consecutive coefficients, starting from the truncated
    square root: under a second for 10,000 rounds and 64 bands. Public, and read only.

    Raises:
        ValueError: `bands` is below 1, above `MOST_BANDS`, or above `rounds`.
    """
    if not 1 <= bands <= min(rounds, MOST_BANDS):
        raise ValueError(f"expected 1 to {min(rounds, MOST_BANDS)} bands, got {bands}")
    root = square_root(bands, momentum)
    ratios = root[1:] / root[:-1]
    if bands > 1:
        from scipy.optimize import minimize  # imported here, because it loads slowly and few plans need it

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
    """Return the power series divided by the polynomial c, which is C^-1 times a vector, in O(rounds bands)."""
    from scipy.signal import lfilter  # imported here for the same reason

    return cast(Floats, lfilter(np.ones(1), c, series))


def _loss(ratios: Floats, power: Floats) -> tuple[float, Floats]:
    """Return the logarithm of the mean square error of the running sums, and its gradient by the ratios.

    Let beta = A c^-1, the first column of B. The loss is log(|c|^2 sum_k (1 - k / rounds) beta_k^2). As c beta is
    fixed, the derivative of the sum by c_j is -2 sum_k lambda_k beta_(k-j), where C^T lambda = (1 - k / rounds) beta.
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

    The unit is the standard deviation of the noise that the same noise multiplier adds to one sum. The scale of the
    coefficients does not matter.

    >>> deviations([1.0], 4).round(3).tolist()
    [1.0, 1.414, 1.732, 2.0]
    """
    whole = np.asarray(c, dtype=np.float64)
    beta = _divide(workload(rounds, momentum), whole / whole[0])
    return np.sqrt(np.cumsum(beta**2)) * math.hypot(*(whole / whole[0]))


@lru_cache(maxsize=64)
def release_deviation(rounds: int, bands: int, momentum: float = 0.0) -> float:
    """Return the largest standard deviation of a coordinate's noise in one release, in the same unit; public.

    With several bands it is above 1: a release has more noise than with independent noise, and later releases cancel
    part of it.

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
    """Return integer weights, int64 [bands], in about the ratios of c; the first is a power of two; public.

    The weights are as large as the sampler allows for fresh noise, whose standard deviation is `std` times their
    norm; larger weights are more precise. `std` is the standard deviation, in grid steps, of the independent noise
    that the correlated noise replaces.

    Raises:
        ValueError: `std` is too large for weights of `LEAST_BITS` bits.
    """
    for bits in range(MOST_BITS, LEAST_BITS - 1, -1):
        weights = np.rint(c / c[0] * 2.0**bits).astype(np.int64)
        if std * weights_norm(weights) <= MOST_STD:
            return weights
    raise ValueError(f"noise of {std:g} steps is too much for a grid this fine")
