"""What each task takes, what lies within its classes, and its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bract.models import NETWORKS, objective_of
from bract.models.objectives import (
    CLASSIFICATION,
    NEXT_TOKEN,
    RECONSTRUCTION,
    REGRESSION,
    Objective,
    cross_entropy,
    squared_error,
)

IMAGES, TOKENS = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12).view(4, 3)
CLASSES, NUMBERS = torch.tensor([0, 1, 2, 1]), torch.tensor([0.5, -1.0, 2.5, 0.0])
PAIRS = {"classes": (IMAGES, CLASSES), "numbers": (IMAGES, NUMBERS), "tokens": (TOKENS, TOKENS)}


@pytest.mark.parametrize(
    ("learns", "kinds"),
    [
        (CLASSIFICATION, {"classes"}),
        (NEXT_TOKEN, {"tokens"}),
        (REGRESSION, {"classes", "numbers"}),
        (RECONSTRUCTION, {"classes", "numbers"}),
    ],
)
def test_a_task_takes_records_of_its_kind_and_no_others(learns: Objective, kinds: set[str]) -> None:
    assert {kind for kind, pair in PAIRS.items() if learns.takes(*pair)} == kinds


@pytest.mark.parametrize("learns", [CLASSIFICATION, REGRESSION])
def test_one_label_too_many_or_too_few_dimensions_is_not_taken(learns: Objective) -> None:
    assert not learns.takes(IMAGES, CLASSES[:, None])
    assert not learns.takes(TOKENS, CLASSES[:3])


def test_classes_and_tokens_outside_are_found_row_by_row() -> None:
    labels, tokens = torch.tensor([0, -1, 2, 3]), TOKENS.clone()
    assert CLASSIFICATION.known(IMAGES, labels, 3).tolist() == [True, False, True, False]
    assert NEXT_TOKEN.known(TOKENS, torch.zeros_like(TOKENS), 7).tolist() == [True, True, False, False]
    tokens[0, 1] = -1
    assert NEXT_TOKEN.known(TOKENS, tokens, 12).tolist() == [False, True, True, True]


@pytest.mark.parametrize("learns", [REGRESSION, RECONSTRUCTION])
def test_numbers_lie_within_any_classes(learns: Objective) -> None:
    assert learns.known(IMAGES, NUMBERS, 1).tolist() == [True] * 4


def test_outputs_are_compared_with_labels_numbers_or_records() -> None:
    """With the record itself."""
    assert CLASSIFICATION.targets(IMAGES, CLASSES) is CLASSES
    assert REGRESSION.targets(IMAGES, CLASSES).tolist() == [0.0, 1.0, 2.0, 1.0]
    assert REGRESSION.targets(IMAGES, NUMBERS.double()).dtype == torch.float32
    assert RECONSTRUCTION.targets(IMAGES, CLASSES) is IMAGES


def test_cross_entropy_is_the_textbook_formula() -> None:
    """And the mean over steps."""
    logits = np.random.default_rng(0).normal(size=(2, 3, 5))
    labels = np.array([[0, 4, 2], [1, 1, 3]])
    shares = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    expected = -np.log(np.take_along_axis(shares, labels[..., None], 2))[..., 0]
    found = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert np.allclose(found.numpy(), expected.mean(1))
    single = cross_entropy(torch.from_numpy(logits[:, 0]), torch.from_numpy(labels[:, 0]))
    assert np.allclose(single.numpy(), expected[:, 0])


def test_squared_error_is_the_mean_over_a_records_numbers() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert squared_error(outputs, targets).tolist() == [0.5, 12.5]
    assert squared_error(torch.tensor([[3.0], [1.0]]), torch.tensor([1.0, 1.0])).tolist() == [4.0, 0.0]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_tell_classes_unless_they_say_otherwise(name: str) -> None:
    others = {"autoencoder": "reconstruction", "gan": "generation", "linear": "regression"}
    others |= dict.fromkeys(("gru-lm", "ngram", "ngram-client"), "next token")
    assert objective_of(name, (1, 28, 28)).name == others.get(name, "classification")


def test_attention_tells_the_next_token_of_a_text() -> None:
    assert objective_of("attention", (20,)) is NEXT_TOKEN
