"""Networks by name: their seeds, their sizes and their outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bract.models import NETWORKS, build, count_parameters, objective_of, read_flat

MadeFor = Callable[[str, tuple[int, ...], int], tuple[nn.Module, torch.Tensor, torch.Tensor]]
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


def test_the_generator_is_put_back_if_a_network_is_refused() -> None:
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


def test_parameters_are_counted_without_a_network() -> None:
    """A network of 10 GB is counted on any machine."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert count_parameters("cnn", (1, 3002, 3002), 10) == 64 * 64 * 749**2 + 64 + 650 + 18_496 + 320
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_of_no_network_are_not_counted() -> None:
    """Nor those of none for such records."""
    with pytest.raises(KeyError):
        count_parameters("transformer", SHAPE, CLASSES)
    with pytest.raises(ValueError, match="cnn takes records"):
        count_parameters("cnn", (1, 2, 2), CLASSES)


TEXT = ("gru-lm", "ngram", "ngram-client")
CASES = [(name, (12,) if name in TEXT else SHAPE) for name in NETWORKS] + [("attention", (12,))]


@pytest.mark.parametrize(("name", "shape"), CASES)
class TestEveryModel:
    """What each documented network must hold to be trained privately."""

    def test_its_outputs_are_finite_and_as_its_task_wants_them(
        self, made_for: MadeFor, name: str, shape: tuple[int, ...]
    ) -> None:
        model, x, _ = made_for(name, shape, 5)
        model.eval()
        expected = {
            "classification": (5, CLASSES),
            "next token": (5, *shape, CLASSES),
            "regression": (5, 1),
            "reconstruction": (5, *shape),
            "generation": (5, 2),
        }
        assert model(x).shape == expected[objective_of(name, shape).name]
        assert torch.isfinite(model(x)).all()

    def test_a_finite_loss_has_a_gradient_in_every_parameter(
        self, made_for: MadeFor, name: str, shape: tuple[int, ...]
    ) -> None:
        """Every one that devices train."""
        model, x, y = made_for(name, shape, 16)
        losses = objective_of(name, shape).loss(model(x), y)
        losses.mean().backward()
        assert losses.shape == (16,)
        assert torch.isfinite(losses).all()
        for path, parameter in model.named_parameters():
            if path.startswith("generator."):
                assert not parameter.requires_grad, path
                continue
            assert parameter.requires_grad, path
            assert torch.isfinite(parameter.grad).all(), path
            assert parameter.grad.abs().sum() > 0, path

    def test_a_record_changes_no_other_records_outputs(
        self, made_for: MadeFor, name: str, shape: tuple[int, ...]
    ) -> None:
        model, x, _ = made_for(name, shape, 4)
        other = torch.cat([x[:3], (x[:1] + 1) % CLASSES if len(shape) == 1 else 100 * x[:1]])
        assert torch.equal(model(x)[:3], model(other)[:3])

    def test_its_state_is_its_parameters_alone(self, made_for: MadeFor, name: str, shape: tuple[int, ...]) -> None:
        model, _, _ = made_for(name, shape, 1)
        assert set(model.state_dict()) == {path for path, _ in model.named_parameters()}

    def test_a_step_against_the_gradient_lowers_the_loss(
        self, made_for: MadeFor, name: str, shape: tuple[int, ...]
    ) -> None:
        model, x, y = made_for(name, shape, 16)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            loss = objective_of(name, shape).loss(model(x), y).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]
        assert np.isfinite(losses).all()
