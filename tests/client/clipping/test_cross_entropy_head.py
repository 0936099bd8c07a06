"""The last linear layer under cross entropy, whose gradients have a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bract.client.clipping import cross_entropy_head as head
from bract.client.clipping.cross_entropy_head import has_head, head_gradients
from bract.models.objectives import cross_entropy

ROWS, STEPS, WIDTH, CLASSES = 4, 7, 6, 11
EACH_HEAD = pytest.mark.parametrize("steps", [(), (STEPS,), None], indirect=True, ids=["plain", "steps", "large"])


@pytest.fixture
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """The steps of a record; the large head is that of few classes."""
    if request.param is None:
        monkeypatch.setattr(head, "MANY_LOGITS", STEPS * CLASSES)
    return (STEPS,) if request.param is None else request.param


@EACH_HEAD
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
def test_norms_sums_and_input_gradients_are_autograds(
    dtype: torch.dtype, tolerance: float, scale: float, steps: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer, labels = nn.Linear(WIDTH, CLASSES).to(dtype), torch.randint(0, CLASSES, (ROWS, *steps))
    inputs = (scale * torch.randn(ROWS, *steps, WIDTH, dtype=dtype)).requires_grad_()
    losses = cross_entropy(layer(inputs), labels)
    wanted = [torch.autograd.grad(one, [layer.weight, layer.bias, inputs], retain_graph=True) for one in losses[:3]]
    of_head, gradient = head_gradients(layer, inputs.detach(), labels, count=3)
    norms = torch.stack([w.double().norm() ** 2 + b.double().norm() ** 2 for w, b, _ in wanted])
    assert torch.allclose(of_head.squared_norms[:3], norms, rtol=tolerance)
    assert float(of_head.squared_norms[3]) == 0.0
    factors = torch.tensor([0.3, 1.0, 0.5, 1.0], dtype=torch.float64)
    expected = [sum(f * g[part] for f, g in zip(factors, wanted, strict=False)) for part in range(2)]
    found = dict(of_head.weighted_sum(factors))
    for parameter, theirs in zip([layer.weight, layer.bias], expected, strict=True):
        assert (found[parameter] - theirs).norm() <= tolerance * theirs.norm()
    of_inputs = sum(g[2] for g in wanted)
    assert (gradient - of_inputs).norm() <= tolerance * of_inputs.norm()


@EACH_HEAD
def test_a_record_that_is_not_finite_spoils_no_other(steps: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, labels = nn.Linear(WIDTH, CLASSES), torch.randint(0, CLASSES, (ROWS, *steps))
    inputs = torch.randn(ROWS, *steps, WIDTH)
    factors = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    clean, _ = head_gradients(layer, inputs, labels, ROWS)
    inputs[1, ..., 3] = torch.inf
    spoilt, gradient = head_gradients(layer, inputs, labels, ROWS)
    assert not bool(torch.isfinite(spoilt.squared_norms[1]))
    assert bool(torch.isfinite(gradient[[0, 2, 3]]).all())
    for (_, found), (_, expected) in zip(spoilt.weighted_sum(factors), clean.weighted_sum(factors), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_only_a_last_linear_layer_under_cross_entropy_is_a_head() -> None:
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, CLASSES))
    assert has_head(model, cross_entropy, (STEPS,))
    assert has_head(model, cross_entropy, ())
    assert not has_head(model, cross_entropy, (2, STEPS))
    assert not has_head(model, lambda outputs, labels: cross_entropy(outputs, labels), (STEPS,))
    assert not has_head(nn.Sequential(*model, nn.ReLU()), cross_entropy, (STEPS,))
    assert not has_head(model[1], cross_entropy, (STEPS,))
    model[1].weight.requires_grad_(False)
    assert not has_head(model, cross_entropy, (STEPS,))


@pytest.mark.parametrize(("labels", "large"), [((2, 16), True), ((2, 15), False), ((2,), False)])
def test_only_a_large_vocabulary_is_computed_record_by_record(labels: tuple[int, ...], large: bool) -> None:
    layer = nn.Linear(3, head.MANY_LOGITS // 16)
    of_head, _ = head_gradients(layer, torch.randn(*labels, 3), torch.zeros(labels, dtype=torch.int64), 2)
    assert isinstance(of_head, head.HeadGradients) == large
