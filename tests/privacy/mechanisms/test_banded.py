"""The banded factorisation: its algebra, what a participation costs under it, and the whole numbers it runs on."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from scipy.optimize import brentq, check_grad
from scipy.signal import lfilter
from scipy.stats import chi2, norm

from bract.privacy import Composed, Gaussian, Keystream
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.mechanisms.central import correlated_gaussian
from bract.privacy.mechanisms.correlation import Correlation, check_separation, too_recent
from bract.privacy.mechanisms.factorisation import (
    LEAST_BITS,
    MOST_BITS,
    _loss,
    coefficients,
    deviations,
    relative_error,
    square_root,
    whole_weights,
    workload,
)
from bract.privacy.noise.gaussian import MOST_STD, gaussian
from bract.server.cohort import choose_cohort

STD = 2.0**12
SHAPES = [(8, 1), (8, 3), (12, 4), (30, 7), (12, 12), (200, 16)]
MANY = [*SHAPES, (1000, 2), (1000, 16), (10_000, 2), (10_000, 64)]


def dense(c, rounds: int) -> np.ndarray:
    """The lower triangular Toeplitz matrix of these coefficients."""
    column = np.zeros(rounds)
    column[: len(c)] = c[:rounds]
    return toeplitz(column, np.zeros(rounds))


def cost(matrix: np.ndarray, pattern: tuple[int, ...]) -> float:
    """The largest square, over contributions of norm 1 in any number of dimensions, of what a unit moves."""
    columns = matrix[:, list(pattern)]
    return float(np.abs(columns.T @ columns).sum())


def patterns(rounds: int, separation: int):
    """All choices of rounds that are so far apart."""
    for count in range(1, rounds + 1):
        for rows in combinations(range(rounds), count):
            if all(b - a >= separation for a, b in pairwise(rows)):
                yield rows


def unit(weights: np.ndarray, rounds: int) -> np.ndarray:
    """C as it is run, in units of the fresh noise for noise multiplier 1: its whole weights over their norm."""
    return dense(weights, rounds) / math.sqrt(sum(w**2 for w in weights.tolist()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("rounds", "bands"), SHAPES)
def test_the_factors_multiply_to_the_running_sums(rounds: int, bands: int, momentum: float) -> None:
    c, a = dense(coefficients(rounds, bands, momentum), rounds), dense(workload(rounds, momentum), rounds)
    inverse = np.linalg.inv(c)
    assert c @ inverse == pytest.approx(np.eye(rounds), abs=1e-9)
    assert (a @ inverse) @ c == pytest.approx(a, abs=1e-9)
    rows = np.linalg.norm(a @ inverse, axis=1) * np.linalg.norm(c, axis=0).max()
    assert deviations(coefficients(rounds, bands, momentum), rounds, momentum) == pytest.approx(rows, rel=1e-9)


def test_the_workload_is_what_the_server_steps_by() -> None:
    assert (dense(workload(5), 5) == np.tril(np.ones((5, 5)))).all()
    velocity, model, seen = 0.0, 0.0, []
    for gradient in (1.0, 0.0, 0.0, 0.0):
        velocity = 0.9 * velocity + gradient
        model += velocity
        seen.append(model)
    assert workload(4, 0.9) == pytest.approx(seen)


def test_one_band_is_independent_noise() -> None:
    assert coefficients(50, 1).tolist() == [1.0]
    assert relative_error(50, 1) == 1.0
    assert deviations([3.0], 50) == pytest.approx(np.sqrt(np.arange(1, 51)))
    noise, after = correlated_gaussian(STD, 1000, Keystream(bytes(32)), Correlation(np.array([1])))
    assert (noise == gaussian(STD, 1000, Keystream(bytes(32)))).all()
    assert after.past == ()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_square_root_squares_to_the_workload(momentum: float) -> None:
    root = square_root(40, momentum)
    assert np.convolve(root, root)[:40] == pytest.approx(workload(40, momentum))
    if momentum == 0:
        assert root[1:] == pytest.approx(root[:-1] * (1 - 1 / (2 * np.arange(1, 40))))


@pytest.mark.parametrize(("rounds", "bands"), [shape for shape in MANY if shape[1] > 1])
def test_the_optimum_beats_the_root_which_beats_independence(rounds: int, bands: int) -> None:
    """The square root beats independent noise."""
    best, root, alone = (
        np.square(deviations(c, rounds)).sum() for c in (coefficients(rounds, bands), square_root(bands), [1.0])
    )
    assert best < root < alone
    assert relative_error(rounds, bands) < relative_error(rounds, bands // 2)


@pytest.mark.parametrize(
    ("rounds", "bands", "error"),
    [
        (20, 4, 0.6435634711),
        (100, 8, 0.4397943429),
        (1000, 2, 0.7116227105),
        (1000, 16, 0.2806276584),
        (1000, 64, 0.1803546207),
    ],
)
def test_the_optimum_is_that_of_another_implementation(rounds: int, bands: int, error: float) -> None:
    """Known answers: jax-privacy 2.0.0, `optimize_banded_toeplitz` with 1,000 steps in float64."""
    assert relative_error(rounds, bands) == pytest.approx(error, rel=1e-7)


@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6), st.sampled_from([0.0, 0.8]), st.integers(8, 40))
def test_the_gradient_is_the_slope(ratios: list[float], momentum: float, rounds: int) -> None:
    power = workload(rounds, momentum)
    wrong = check_grad(lambda r: _loss(r, power)[0], lambda r: _loss(r, power)[1], np.array(ratios), epsilon=1e-7)
    assert wrong < 1e-4 * (1 + np.abs(_loss(np.array(ratios), power)[1]).max())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("rounds", "bands"), MANY)
def test_coefficients_fall_so_that_noise_stays_within_64_bits(rounds: int, bands: int, momentum: float) -> None:
    """At the most noise there can be, 12 standard deviations of it stay below where `draw` gives up."""
    c = coefficients(rounds, bands, momentum)
    assert (np.diff(c) <= 0).all()
    assert c.min() > 0
    assert np.linalg.norm(c) == pytest.approx(1.0)
    for std in (STD, 2.0**32):
        weights = whole_weights(c, std)
        inverse = lfilter([1.0], weights / weights[0], np.eye(1, 10_000)[0])
        assert 12 * MOST_STD * np.linalg.norm(inverse) / weights[0] < 2**61 / weights.sum()


@pytest.mark.parametrize("std", [STD, 2.0**33, 2.0**35])
@pytest.mark.parametrize(("rounds", "bands"), MANY)
def test_whole_weights_cost_next_to_no_accuracy(rounds: int, bands: int, std: float) -> None:
    c, weights = coefficients(rounds, bands), whole_weights(coefficients(rounds, bands), std)
    bits = int(weights[0]).bit_length() - 1
    assert weights[0] == 1 << bits
    assert LEAST_BITS <= bits <= MOST_BITS
    assert std * np.linalg.norm(weights) <= MOST_STD
    assert deviations(weights, rounds)[-1] == pytest.approx(deviations(c, rounds)[-1], rel=1e-3)


@pytest.mark.parametrize(("rounds", "bands"), [(9, 1), (12, 2), (12, 3), (13, 5), (12, 12)])
def test_k_participations_apart_cost_what_k_gaussians_do(rounds: int, bands: int) -> None:
    """All patterns: the columns of C share no row, so that each round sees one contribution at most."""
    matrix = unit(whole_weights(coefficients(rounds, bands), STD), rounds)
    for rows in patterns(rounds, bands):
        assert cost(matrix, rows) <= len(rows) * (1 + 1e-12)
        assert ((matrix[:, list(rows)] != 0).sum(axis=1) <= 1).all()
    assert cost(matrix, (0,)) == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 40), st.integers(1, 3))
def test_no_contributions_of_norm_one_move_more(seed: int, bands: int, rounds: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = unit(whole_weights(coefficients(64, bands), STD), rounds)
    rows = np.cumsum(rng.integers(bands, 2 * bands + 1, size=rounds)) - bands
    moves = np.zeros((rounds, dimensions))
    for row in rows[rows < rounds]:
        move = rng.normal(size=dimensions)
        moves[row] = move / np.linalg.norm(move)
    assert np.linalg.norm(matrix @ moves) ** 2 <= (rows < rounds).sum() * (1 + 1e-12)


@pytest.mark.parametrize("bands", [2, 3, 5, 16])
def test_participations_one_round_too_near_cost_more(bands: int) -> None:
    matrix = unit(whole_weights(coefficients(64, bands), STD), 64)
    assert cost(matrix, (0, bands)) <= 2 * (1 + 1e-12)
    assert cost(matrix, (0, bands - 1)) > 2 * 1.01


def test_the_ledger_charges_what_the_worst_pattern_costs() -> None:
    """Closed form of Balle and Wang 2018 for two Gaussians that far apart; three participations at multiplier 2."""
    matrix, delta = unit(whole_weights(coefficients(12, 4), STD), 12), 1e-5
    mu = math.sqrt(max(cost(matrix, rows) for rows in patterns(12, 4))) / 2.0

    def excess(e: float) -> float:
        return norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta

    charged = epsilon(Composed(Gaussian(2.0), 3), delta)
    assert charged == pytest.approx(brentq(excess, 0.1, 50.0), rel=0.01)
    assert charged >= brentq(excess, 0.1, 50.0) * (1 - 1e-6)


def test_noise_started_afresh_owes_earlier_releases_nothing() -> None:
    """A crash after round 5 was seen; it is made again from no past: even twice the same client is two Gaussians."""
    block = unit(whole_weights(coefficients(12, 3), STD), 12)
    both = np.zeros((9, 9))
    both[:5, :5], both[5:, 5:] = block[:5, :5], block[:4, :4]
    assert cost(both, (1, 4, 5)) <= 3 * (1 + 1e-12)
    again = np.vstack([block[:5], block[4:8]])
    assert cost(again, (3,)) > 1.01


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12), st.sampled_from([STD, 2.0**34]))
def test_what_is_released_follows_from_the_noised_sums(seed: int, bands: int, rounds: int, std: float) -> None:
    """In Python's whole numbers, which neither round nor overflow."""
    rng = np.random.default_rng(seed)
    weights = whole_weights(coefficients(16, bands), std)
    state, sums, noised, released, decoded = Correlation(weights), [], [], [], []
    for _ in range(rounds):
        sums.append(int(rng.integers(-(2**40), 2**40)))
        fresh = np.rint(rng.normal(size=1) * std * np.linalg.norm(weights)).astype(np.int64)
        noise, state = state.follow(fresh)
        released.append(sums[-1] + int(noise[0]))
        noised.append(int(fresh[0]) + sum(int(w) * x for w, x in zip(weights, sums[::-1], strict=False)))
    for total in noised:
        rest = total - sum(int(w) * r for w, r in zip(weights[1:], decoded[::-1], strict=False))
        decoded.append((2 * rest + int(weights[0])) // (2 * int(weights[0])))
    assert decoded == released


@pytest.mark.parametrize(("rounds", "bands"), [(8, 1), (30, 7), (200, 16)])
def test_the_stream_is_the_inverse_of_c_up_to_rounding(rounds: int, bands: int) -> None:
    rng, weights = np.random.default_rng(1), whole_weights(coefficients(rounds, bands), STD)
    fresh = np.rint(rng.normal(size=(rounds, 3)) * STD * np.linalg.norm(weights)).astype(np.int64)
    state, noise = Correlation(weights), []
    for row in fresh:
        made, state = state.follow(row)
        noise.append(made)
        assert len(state.past) == min(len(noise), bands - 1)
    matrix = dense(weights, rounds)
    blowup = np.abs(np.linalg.inv(matrix / weights[0])[:, 0]).sum()
    assert np.abs(np.array(noise) - np.linalg.solve(matrix, fresh)).max() <= 0.5 * blowup + 1e-6


@pytest.mark.parametrize("key", [bytes([5]) * 32, bytes([6]) * 32], ids=["key5", "key6"])
def test_the_noise_in_the_running_sums_is_as_predicted(key: bytes) -> None:
    """Chi-square on each running sum's variance, two-sided: false alarm 1e-9 a round."""
    rounds, count, stream = 6, 100_000, Keystream(key)
    weights = whole_weights(coefficients(rounds, 3), STD)
    state, total = Correlation(weights), np.zeros(count)
    for predicted in deviations(weights, rounds):
        noise, state = correlated_gaussian(STD, count, stream, state)
        total += noise
        ratio = (total**2).sum() / (STD * predicted) ** 2
        assert chi2.ppf(5e-10, count) < ratio < chi2.isf(5e-10, count)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9), st.integers(1, 30))
def test_cohorts_that_rest_are_full_and_never_too_near(
    seed: int, bands: int, size: int, more: int, rounds: int
) -> None:
    clients, stream = list(range(bands * size + more)), Keystream(seed.to_bytes(32, "big"))
    limit = -(-rounds * size // len(clients))
    past: list[tuple[int, list[int]]] = []
    for number in range(1, rounds + 1):
        out = too_recent(past, number, bands)
        counts = Counter(client for _, cohort in past for client in cohort)
        cohort = choose_cohort([c for c in clients if c not in out], counts, size, limit, stream)
        assert len(cohort) == size
        check_separation(past, number, cohort, bands)
        past.append((number, cohort))
    seen = {c: [n for n, cohort in past if c in cohort] for c in clients}
    assert all(b - a >= bands for rows in seen.values() for a, b in pairwise(rows))


def test_a_client_that_is_back_too_early_is_refused() -> None:
    past = [(1, [3]), (2, [4])]
    check_separation(past, 4, [3], bands=3)
    with pytest.raises(ValueError, match="round 4"):
        check_separation(past, 4, [3, 4], bands=3)


def test_what_does_not_fit_is_refused_and_prints_no_secret() -> None:
    for bands in (-1, 0, 11, 65):
        with pytest.raises(ValueError, match="bands"):
            coefficients(1000 if bands > 11 else 10, bands)
    with pytest.raises(ValueError, match="grid"):
        whole_weights(coefficients(100, 4), 2.0**38)
    with pytest.raises(OverflowError, match="64 bits"):
        Correlation(np.array([1, 1])).follow(np.array([1 << 61]))
    state = Correlation(whole_weights(coefficients(9, 3), STD), (np.array([12345, 2]),))
    with pytest.raises(ValueError, match="coordinates"):
        correlated_gaussian(STD, 3, Keystream(bytes(32)), state)
    assert repr(state) == "Correlation(bands=3, past=1 vectors)"
    with pytest.raises(ValueError, match="read-only"):
        coefficients(9, 3)[0] = 2.0
