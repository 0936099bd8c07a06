"""The generative network: what it says of records, where its latent numbers come from, how its generator learns."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bract.models import NETWORKS, build, count_parameters, objective_of, read_flat
from bract.models.networks.gan import LATENT, Gan, refine, uniform

SHAPE = (1, 4, 5)
OBJECTIVE = objective_of("gan", SHAPE)


def network(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Gan:
    model = build("gan", shape, 3, seed)
    assert isinstance(model, Gan)
    return model


def records(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 28, 28), (7,), (2, 3)])
def test_two_logits_a_record_and_made_records_in_0_to_1(shape: tuple[int, ...]) -> None:
    """Of any shape; made records have the shape of the records."""
    model = network(shape=shape)
    assert model(torch.rand(4, *shape)).shape == (4, 2)
    made = model.make(6, 1)
    assert made.shape == (6, *shape)
    assert 0 <= float(made.min()) < float(made.max()) <= 1
    assert torch.equal(made, model.make(6, 1))
    assert not torch.equal(made, model.make(6, 2))


def test_it_has_155_665_parameters_for_28x28_images() -> None:
    """Grey ones, whatever the classes."""
    assert {count_parameters("gan", (1, 28, 28), classes) for classes in (2, 62)} == {155_665}


def test_records_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="gan takes records of at least one number"):
        build("gan", (3, 0), 2)


def test_it_learns_by_the_mean_of_both_cross_entropies() -> None:
    """To tell records from made ones."""
    x = records(5)
    logits = network()(x)
    chances = torch.sigmoid(logits)
    expected = -(chances[:, 0].log() + (1 - chances[:, 1]).log()) / 2
    assert OBJECTIVE.name == "generation"
    assert torch.allclose(OBJECTIVE.loss(logits, torch.zeros(5)), expected, atol=1e-6)


def test_the_discriminator_sees_a_record_and_a_made_one() -> None:
    """One that the generator made."""
    model, x = network(), records(3)
    logits = model(x)
    made = model.generator(model._latents(x.flatten(1)))
    assert torch.allclose(logits[:, 0], model.discriminator(x.flatten(1))[:, 0], atol=1e-6)
    assert torch.allclose(logits[:, 1], model.discriminator(made)[:, 0], atol=1e-6)


def test_only_the_discriminator_is_trained() -> None:
    model = network()
    OBJECTIVE.loss(model(records(3)), torch.zeros(3)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.discriminator.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.generator.parameters())


class TestLatentNumbers:
    def test_are_those_of_the_record_and_of_the_weights(self) -> None:
        """Wherever the record stands in the batch."""
        model, x = network(), records(9).flatten(1)
        found = model._latents(x)
        assert torch.equal(model._latents(x.flip(0)).flip(0), found)
        assert torch.equal(model._latents(x[3:4]), found[3:4])
        assert torch.equal(model._latents(x.double()).float(), found)
        with torch.no_grad():
            model.discriminator[2].weight[0, 5] += 1e-6
        assert (model._latents(x) != found).all(1).all()

    @given(place=st.integers(0, 19), change=st.floats(1e-6, 1.0))
    def test_are_new_ones_for_a_record_that_differs_anywhere(self, place: int, change: float) -> None:
        model, x = network(), records(1).flatten(1)
        other = x.clone()
        other[0, place] += change
        gap = (model._latents(x) - model._latents(other)).abs()
        assert float(gap.mean()) > 0.3  # 2/3 on average, 0.08 its deviation: once in 100,000

    def test_are_uniform_over_minus_1_to_1_and_no_two_go_together(self) -> None:
        model, rows = network(), 4000
        found = model._latents(torch.linspace(0, 1, rows)[:, None].expand(rows, 20).contiguous()).numpy()
        assert -1 <= found.min() < -0.999
        assert 0.999 < found.max() <= 1
        assert np.abs(found.mean(0)).max() < 5 * np.sqrt(1 / 3 / rows)
        assert np.abs(np.corrcoef(found, rowvar=False) - np.eye(LATENT)).max() < 5 / np.sqrt(rows)
        assert np.abs(np.histogram(found, 16, (-1, 1))[0] / found.size - 1 / 16).max() < 0.002


class TestRefining:
    def test_depends_on_network_and_seed_alone(self) -> None:
        """It leaves the discriminator alone."""
        models = [network() for _ in range(3)]
        before = copy.deepcopy(models[0])
        torch.manual_seed(0)
        refine(models[0], 5)
        torch.manual_seed(1)
        NETWORKS["gan"].refine(models[1], 5)
        refine(models[2], 6)
        assert np.array_equal(read_flat(models[0]), read_flat(models[1]))
        assert not np.array_equal(read_flat(models[0]), read_flat(models[2]))
        assert np.array_equal(read_flat(models[0].discriminator), read_flat(before.discriminator))
        assert (read_flat(models[0].generator) != read_flat(before.generator)).mean() > 0.9
        assert all(p.grad is None for p in models[0].parameters())
        assert not any(p.requires_grad for p in models[0].generator.parameters())

    def test_makes_records_that_the_discriminator_holds_to_be_truer(self) -> None:
        model = network()
        z = uniform(500, torch.Generator().manual_seed(9))
        with torch.no_grad():
            before = model.discriminator(model.generator(z)).mean()
        for seed in range(20):
            refine(model, seed)
        with torch.no_grad():
            assert float(model.discriminator(model.generator(z)).mean() - before) > 0.05
