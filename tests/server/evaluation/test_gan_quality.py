"""What the server does for a network that makes records: no noise gets into the generator, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bract.models import build, load_flat, read_flat
from bract.models.networks.gan import Gan, refine
from bract.privacy import Plan
from bract.server.evaluation import gan_quality as generation
from bract.server.evaluation.gan_quality import coverage, distance, figures, trained
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
DRAW = SeededEntropy(3).keystream


def gan(seed: int = 0) -> Gan:
    model = build("gan", (1, 2, 2), 3, seed)
    assert isinstance(model, Gan)
    return model


def sample(count: int, mean: float = 0.0, spread: float = 1.0, numbers: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (count, numbers))


class TestRefining:
    def test_other_networks_are_what_the_step_made_of_them(self, make: Make) -> None:
        stepped = np.ones(15, dtype=np.float32)
        assert generation.refine(make(), np.zeros(15, np.float32), stepped, DRAW("refine", 1)) is stepped

    def test_trains_the_generator_and_leaves_the_discriminator(self, make: Make) -> None:
        """The discriminator is as it was stepped, and the generator learns from where it was."""
        plan, model = make(model={"name": "gan"}), gan()
        before, mask = read_flat(model), trained(model)
        noise = np.random.default_rng(0).normal(0, 100, len(before)).astype(np.float32)
        found = generation.refine(plan, before, before + noise, DRAW("refine", 1))
        load_flat(model, np.where(mask, before + noise, before))
        refine(model, int(DRAW("refine", 1).words(1)[0] >> 1))
        assert np.array_equal(found, read_flat(model))
        assert np.array_equal(found[mask], (before + noise)[mask])
        assert mask.sum() == sum(p.numel() for p in model.discriminator.parameters()) == 4 * 64 + 64 + 65

    def test_noise_on_the_generators_lanes_changes_nothing_at_all(self, make: Make) -> None:
        plan, before = make(model={"name": "gan"}), read_flat(gan())
        noise = np.where(trained(gan()), 0, 1e30).astype(np.float32)
        one, other = (generation.refine(plan, before, s, DRAW("refine", 2)) for s in (before, before + noise))
        assert np.array_equal(one, other)


class TestFigures:
    def test_distance_is_that_of_gaussians_over_the_true_variance(self) -> None:
        """On one axis |m - n|^2 + (s - t)^2, so 9 + (1 - 2)^2 on each of four, over 1 on each."""
        found = distance(sample(200_000), sample(200_000, 3.0, 2.0, seed=1))
        assert found == pytest.approx(10.0, rel=0.02)

    def test_distance_is_0_to_the_sample_itself_and_1_to_its_mean(self) -> None:
        for numbers in (1, 4, 50):
            true = sample(100, 2.0, numbers=numbers)
            assert distance(true, true.copy()) == pytest.approx(0, abs=1e-6)
            assert distance(true, np.tile(true.mean(0), (100, 1))) == pytest.approx(1)

    def test_coverage_is_the_share_of_records_with_one_nearby(self) -> None:
        """Of true records with a made one nearby."""
        true = np.concatenate([sample(30), sample(10, 100.0)])
        assert coverage(true, true.copy()) == 1
        assert coverage(true, sample(40, seed=1)) == pytest.approx(0.75, abs=0.05)
        assert coverage(true, sample(40, 50.0)) == 0
        assert coverage(true[:2], true[:2]) == 1

    def test_they_are_of_as_many_made_records_as_test_records(self) -> None:
        """And the same every time."""
        model, x = gan(), np.random.default_rng(0).random((50, 1, 2, 2), dtype=np.float32)
        true, made = x.reshape(50, 4).astype(np.float64), model.make(50, generation.SEED).flatten(1).double().numpy()
        torch.manual_seed(8)
        found = figures(model, x)
        assert found == figures(model, x) == {"distance": distance(true, made), "coverage": coverage(true, made)}

    def test_parameters_that_ran_away_are_at_infinity(self) -> None:
        model = gan()
        load_flat(model, np.full(len(read_flat(model)), np.nan, np.float32))
        assert figures(model, np.zeros((9, 1, 2, 2), np.float32)) == {"distance": math.inf, "coverage": 0.0}
