from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bract.models import build, load_flat, read_flat
from bract.privacy import Plan
from bract.server.evaluate import BATCH, make_evaluate

Make = Callable[..., Plan]


def table(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 1, 2, 2)).astype(np.float32), rng.integers(0, 3, count)


def constant(bias: list[float]) -> np.ndarray:
    """Parameters under which every record gets these logits."""
    return np.array([0.0] * 12 + bias, dtype=np.float32)


def test_accuracy_is_the_share_of_records_whose_largest_logit_is_their_label(make: Make) -> None:
    x, _ = table(10)
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    evaluate = make_evaluate(make(), x, y)
    assert evaluate(constant([1.0, 0.0, 0.0])).accuracy == 0.3
    assert evaluate(constant([0.0, 1.0, 0.0])).accuracy == 0.2
    assert evaluate(constant([0.0, 0.0, 1.0])).accuracy == 0.5


def test_loss_is_the_mean_cross_entropy_in_nats(make: Make) -> None:
    x, y = table(10)
    assert make_evaluate(make(), x, y)(constant([0.0, 0.0, 0.0])).loss == pytest.approx(np.log(3), rel=1e-6)


def test_every_record_counts_once_however_many_batches_they_fill(make: Make) -> None:
    x, y = table(2 * BATCH + 3)
    plan = make()
    model = build("tiny", plan.data.shape, plan.data.classes, seed=0)
    with torch.no_grad():
        logits = model(torch.from_numpy(x))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    quality = make_evaluate(plan, x, y)(read_flat(model))
    assert quality.accuracy == pytest.approx((logits.argmax(1).numpy() == y).mean())
    assert quality.loss == pytest.approx(loss, rel=1e-5)


def test_each_call_is_of_the_parameters_it_was_given(make: Make) -> None:
    x, y = table(50)
    evaluate = make_evaluate(make(), x, y)
    first = evaluate(constant([1.0, 0.0, 0.0]))
    evaluate(constant([0.0, 5.0, 0.0]))
    assert evaluate(constant([1.0, 0.0, 0.0])) == first


def test_parameters_are_left_as_they_are(make: Make) -> None:
    x, y = table(5)
    parameters = constant([1.0, 2.0, 3.0])
    parameters.flags.writeable = False
    make_evaluate(make(), x, y)(parameters)
    assert np.array_equal(parameters, constant([1.0, 2.0, 3.0]))


def test_it_leaves_other_networks_alone(make: Make) -> None:
    model = build("tiny", (1, 2, 2), 3, seed=0)
    load_flat(model, constant([1.0, 2.0, 3.0]))
    make_evaluate(make(), *table(5))(constant([0.0, 0.0, 0.0]))
    assert np.array_equal(read_flat(model), constant([1.0, 2.0, 3.0]))


def test_parameters_of_another_length_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="expected 15 parameters"):
        make_evaluate(make(), *table(5))(np.zeros(14, dtype=np.float32))
