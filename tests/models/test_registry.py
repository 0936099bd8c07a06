from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bract.models import MODELS, build, count_parameters, read_flat

SHAPE, CLASSES = (1, 28, 28), 10


def start(seed: int | None) -> bytes:
    return read_flat(build("cnn", (1, 10, 10), 3, seed)).tobytes()


def test_one_seed_gives_one_start_and_another_seed_another() -> None:
    assert start(7) == start(7)
    assert start(7) != start(8)


def test_without_a_seed_each_start_is_another() -> None:
    assert start(None) != start(None)


def test_a_seeded_start_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build("cnn", (1, 10, 10), 3, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seeded_start_does_not_depend_on_torchs_generator() -> None:
    torch.manual_seed(0)
    first = start(7)
    torch.manual_seed(1)
    assert start(7) == first


def test_the_generator_is_put_back_even_if_the_network_is_refused() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="cnn takes records"):
        build("cnn", (1, 2, 2), 3, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_there_is_not_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        build("transformer", SHAPE, CLASSES)


@pytest.mark.parametrize(("shape", "classes"), [(SHAPE, CLASSES), ((1, 10, 10), 3), ((3, 40, 32), 100)])
def test_parameters_are_counted_as_they_are_built(shape: tuple[int, ...], classes: int) -> None:
    assert count_parameters("cnn", shape, classes) == len(read_flat(build("cnn", shape, classes)))


def test_parameters_are_counted_without_a_network_and_without_a_random_number() -> None:
    """A network of 10 GB is counted on any machine."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert count_parameters("cnn", (1, 3002, 3002), 10) == 64 * 64 * 749**2 + 64 + 650 + 18_496 + 320
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_of_no_network_or_of_none_for_such_records_are_not_counted() -> None:
    with pytest.raises(KeyError):
        count_parameters("transformer", SHAPE, CLASSES)
    with pytest.raises(ValueError, match="cnn takes records"):
        count_parameters("cnn", (1, 2, 2), CLASSES)


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    """What each documented network must hold to be trained privately on images."""

    def test_it_gives_one_finite_logit_a_class(self, name: str) -> None:
        logits = build(name, SHAPE, CLASSES, seed=0)(torch.rand(5, *SHAPE))
        assert logits.shape == (5, CLASSES)
        assert torch.isfinite(logits).all()

    def test_its_loss_is_finite_and_a_gradient_reaches_every_parameter(self, name: str) -> None:
        torch.manual_seed(0)
        model = build(name, SHAPE, CLASSES, seed=0)
        loss = nn.functional.cross_entropy(model(torch.randn(16, *SHAPE)), torch.arange(16) % CLASSES)
        loss.backward()
        assert torch.isfinite(loss)
        for path, parameter in model.named_parameters():
            assert parameter.requires_grad, path
            assert torch.isfinite(parameter.grad).all(), path
            assert parameter.grad.abs().sum() > 0, path

    def test_a_record_changes_no_other_records_logits(self, name: str) -> None:
        torch.manual_seed(0)
        model = build(name, SHAPE, CLASSES, seed=0)
        batch = torch.randn(4, *SHAPE)
        other = torch.cat([batch[:3], 100 * torch.randn(1, *SHAPE)])
        assert torch.equal(model(batch)[:3], model(other)[:3])

    def test_its_state_is_its_parameters_alone(self, name: str) -> None:
        model = build(name, SHAPE, CLASSES, seed=0)
        assert set(model.state_dict()) == {path for path, _ in model.named_parameters()}

    def test_a_step_against_the_gradient_lowers_the_loss(self, name: str) -> None:
        torch.manual_seed(0)
        model = build(name, SHAPE, CLASSES, seed=0)
        x, y = torch.randn(16, *SHAPE), torch.arange(16) % CLASSES
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]
        assert np.isfinite(losses).all()
