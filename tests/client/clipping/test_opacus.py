"""Clipping by Opacus: its sums, and that records do not move each other's gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from by_autograd import looped_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.engine import Engine
from bract.client.clipping.errors import ClippingError
from bract.client.clipping.opacus import ROWS, OpacusEngine, RecordClipper
from bract.client.records import Records
from bract.models import build, read_flat
from bract.privacy.plan.plan import ROUNDING_MARGIN

SHAPE, CLASSES, CLIP = (1, 10, 10), 3, 0.7


def network(seed: int = 0) -> nn.Module:
    return build("cnn", SHAPE, CLASSES, seed)


def images(count: int, seed: int = 0, scale: float = 1.0, shape: tuple[int, ...] = SHAPE) -> Records:
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(count, *shape, generator=generator)
    return Records(features, torch.randint(0, CLASSES, (count,), generator=generator))


def join(*parts: Records) -> Records:
    return Records(torch.cat([p.features for p in parts]), torch.cat([p.labels for p in parts]))


def without(records: Records, number: int) -> Records:
    keep = np.ones(len(records), dtype=np.bool_)
    keep[number] = False
    return records.select(keep)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


@pytest.mark.parametrize("clip", [0.05, 0.7, 1e3])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_sum_is_that_of_a_loop_over_single_records(count: int, clip: float) -> None:
    records = images(count, seed=count)
    expected = looped_sum(network(), records, clip)
    found = OpacusEngine(network(), clip).clipped_sum(records)
    assert distance(found, expected) <= 1e-5 * np.linalg.norm(expected)
    assert found.dtype == np.float64


@pytest.mark.parametrize("count", [ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 5])
def test_batches_that_do_not_fill_their_chunks_are_summed_whole(count: int) -> None:
    records = images(count)
    expected = looped_sum(network(), records, CLIP)
    found = OpacusEngine(network(), CLIP).clipped_sum(records)
    assert distance(found, expected) <= 1e-5 * np.linalg.norm(expected)


def test_of_the_compared_records_only_some_are_clipped() -> None:
    records, engine = images(17, seed=17), OpacusEngine(network(), 1e9)
    norms = [np.linalg.norm(engine.clipped_sum(part)) for part in records.chunks(1)]
    middle = float(np.median(norms))
    expected = looped_sum(network(), records, middle)
    found = OpacusEngine(network(), middle).clipped_sum(records)
    assert 1.1 * min(norms) < middle < 0.9 * max(norms)
    assert distance(found, expected) <= 1e-5 * np.linalg.norm(expected)


def test_an_empty_batch_gives_zeros_of_the_full_length() -> None:
    found = OpacusEngine(network(), CLIP).clipped_sum(images(3).select(np.zeros(3, dtype=np.bool_)))
    assert found.shape == read_flat(network()).shape
    assert found.dtype == np.float64
    assert not found.any()


def test_a_batch_is_summed_alike_whatever_was_summed_before() -> None:
    engine, records = OpacusEngine(network(), CLIP), images(5)
    first = engine.clipped_sum(records)
    engine.clipped_sum(images(70, seed=1, scale=30.0))
    assert np.array_equal(engine.clipped_sum(records), first)


def test_the_sum_leaves_the_parameters_as_they_are() -> None:
    model = network()
    engine, before = OpacusEngine(model, CLIP), read_flat(model)
    engine.clipped_sum(images(3))
    assert np.array_equal(read_flat(model), before)


def test_the_order_of_records_matters_less_than_the_margin() -> None:
    """By a factor of 20: the margin is what a plan leaves for rounding."""
    records = images(2 * ROWS + 9, scale=3.0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(records)))
    engine = OpacusEngine(network(), CLIP)
    shuffled = engine.clipped_sum(Records(records.features[order], records.labels[order]))
    assert distance(engine.clipped_sum(records), shuffled) < CLIP * ROUNDING_MARGIN / 20


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4, 1e8])
def test_rounding_of_a_sum_lies_far_below_its_margin(scale: float) -> None:
    records = images(2 * ROWS, scale=scale)
    found = OpacusEngine(network(), CLIP).clipped_sum(records)
    exact = OpacusEngine(network().double(), CLIP).clipped_sum(Records(records.features.double(), records.labels))
    assert np.linalg.norm(exact) > CLIP
    assert distance(found, exact) < CLIP * ROUNDING_MARGIN / 20


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e9])
def test_rounding_of_a_clipped_norm_lies_far_below_its_margin(scale: float) -> None:
    engine = OpacusEngine(network(), CLIP)
    norms = [np.linalg.norm(engine.clipped_sum(part)) for part in images(30, scale=scale).chunks(1)]
    assert max(norms) > 0.999 * CLIP
    assert max(norms) / CLIP - 1 < ROUNDING_MARGIN / 100


batches = st.tuples(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([1e-20, 1e-3, 1.0, 1e2, 1e6, 1e15]))
scales = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4, 1e9, 1e15, 1e19, 1e25, 1e38, np.inf, np.nan])


@settings(max_examples=60, deadline=None)
@given(batch=batches, scale=scales, data=st.data())
def test_one_record_more_moves_the_sum_by_at_most_the_clip_norm(
    batch: tuple[int, int, float], scale: float, data: st.DataObject
) -> None:
    seed, count, usual = batch
    records, extra = images(count, seed, usual), images(1, seed + 1, scale)
    at = data.draw(st.integers(0, count))
    before, after = records.select(np.arange(count) < at), records.select(np.arange(count) >= at)
    engine = OpacusEngine(network(seed % 5), CLIP * (1 - ROUNDING_MARGIN))
    moved = distance(engine.clipped_sum(join(before, extra, after)), engine.clipped_sum(records))
    assert moved <= CLIP


@pytest.mark.parametrize("number", [0, ROWS // 2, ROWS, 2 * ROWS])
def test_a_record_of_several_passes_moves_a_sum_by_the_clip_norm(number: int) -> None:
    """By at most that, wherever in the batch it is, and by most of it: it is clipped."""
    records = images(2 * ROWS + 1)
    engine = OpacusEngine(network(), CLIP * (1 - ROUNDING_MARGIN))
    moved = distance(engine.clipped_sum(records), engine.clipped_sum(without(records, number)))
    assert 0.9 * CLIP < moved <= CLIP


def cancelling(seed: int = 3) -> nn.Module:
    """A network whose hidden units are sums that cancel: their sign, and so the gradient, is all rounding error."""
    model = build("cnn", (1, 28, 28), CLASSES, seed=0)
    generator = torch.Generator().manual_seed(seed)
    convolution, hidden, output = model[3], model[7], model[9]
    with torch.no_grad():
        convolution.weight[1::2] = convolution.weight[0::2]
        convolution.bias[1::2] = convolution.bias[0::2]
        side = hidden.in_features // 64
        half = torch.randn(64, 32, side, generator=generator) * 1e6
        hidden.weight.copy_(torch.stack([half, -half], dim=2).reshape(64, -1))
        hidden.bias.zero_()
        output.weight.copy_(torch.randn(CLASSES, 64, generator=generator) * 1e2)
    return model


@pytest.mark.parametrize("kind", [BookKeepingEngine, OpacusEngine])
def test_no_record_moves_the_gradients_of_those_beside_it(kind: type[Engine]) -> None:
    """Under parameters whose sums cancel, so that a change in the last bits becomes one past any clip."""
    image, engine = images(1, shape=(1, 28, 28)).features, kind(cancelling(), CLIP * (1 - ROUNDING_MARGIN))
    moved = []
    for label in range(CLASSES):
        one = Records(image, torch.tensor([label]))
        sums = [engine.clipped_sum(join(*[one] * count)) for count in range(1, 18)]
        moved += [distance(more, fewer) for more, fewer in pairwise(sums)]
    assert 0.9 * CLIP < max(moved) <= CLIP


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 3, ROWS + 2])
def test_a_record_that_is_not_finite_counts_as_zero(poison: float, at: int) -> None:
    """And the others beside it count as without it."""
    records = images(ROWS + 4)
    records.features[at, 0, 4, 4] = poison
    engine = OpacusEngine(network(), CLIP)
    spoilt, rest = engine.clipped_sum(records), engine.clipped_sum(without(records, at))
    assert np.isfinite(spoilt).all()
    assert np.linalg.norm(rest) > CLIP
    assert distance(spoilt, rest) < 1e-5 * np.linalg.norm(rest)


def test_millions_of_equal_entries_are_clipped_exactly() -> None:
    """Summed in float32, the squares of as many equal numbers come out too small."""
    clipper = RecordClipper(
        torch.optim.SGD([weight := nn.Parameter(torch.zeros(3_000_000))], lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    weight.grad_sample = torch.full((2, 3_000_000), 1.7)
    clipper.clip_and_accumulate()
    norm = np.linalg.norm(weight.summed_grad.numpy().astype(np.float64)) / 2
    assert abs(norm / CLIP - 1) < ROUNDING_MARGIN / 100


def test_a_batch_of_nothing_but_spoilt_records_gives_zeros() -> None:
    found = OpacusEngine(network(), CLIP).clipped_sum(images(3, scale=np.nan))
    assert not found.any()
    assert np.isfinite(found).all()


def test_a_norm_that_overflows_moves_a_sum_by_the_clip_norm() -> None:
    """By at most that."""
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e5)
    records = images(4, scale=1e5)
    engine = OpacusEngine(model, CLIP)
    assert distance(engine.clipped_sum(records), engine.clipped_sum(without(records, 0))) <= CLIP * (1 + 1e-4)


@pytest.mark.parametrize("clip", [1e-30, 1e15, 1e38])
def test_extreme_clip_norms_are_kept(clip: float) -> None:
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e4)
    records = images(40, scale=1e3)
    engine = OpacusEngine(model, clip * (1 - ROUNDING_MARGIN))
    assert distance(engine.clipped_sum(records), engine.clipped_sum(without(records, 0))) <= clip


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)])
def test_a_layer_that_mixes_records_is_refused(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(128, CLASSES))
    with pytest.raises(ClippingError) as caught:
        OpacusEngine(model, CLIP)
    what, hint = str(caught.value).split("\n")
    assert what.startswith("error: the model cannot be trained privately: ")
    assert hint == "hint: choose another model.name"


@pytest.mark.parametrize("kind", [BookKeepingEngine, OpacusEngine])
def test_a_record_whose_pass_fails_counts_as_zero(kind: type[Engine]) -> None:
    """The others stay, and its place in the batch is reported."""
    engine, records, faulty = kind(network(), CLIP), images(2 * ROWS + 5), list[int]()
    spoilt = Records(records.features, records.labels.clone())
    spoilt.labels[[3, ROWS + 1]] = CLASSES
    keep = np.ones(len(records), dtype=np.bool_)
    keep[[3, ROWS + 1]] = False
    expected = engine.clipped_sum(records.select(keep))
    found = engine.clipped_sum(spoilt, on_failure=lambda place, fault: faulty.append(place))
    assert faulty == [3, ROWS + 1]
    assert distance(found, expected) < 1e-5


@pytest.mark.parametrize("kind", [BookKeepingEngine, OpacusEngine])
def test_a_batch_that_fails_does_not_spoil_the_batches_after_it(kind: type[Engine]) -> None:
    engine, records = kind(network(), CLIP), images(4)
    expected = engine.clipped_sum(records)
    assert not engine.clipped_sum(Records(records.features, records.labels + CLASSES)).any()
    assert all("forward" not in vars(layer) for layer in engine.model.modules())
    assert np.array_equal(engine.clipped_sum(records), expected)


@pytest.mark.parametrize("kind", [BookKeepingEngine, OpacusEngine])
def test_passes_do_not_show_how_many_records_there_are(kind: type[Engine]) -> None:
    """Neither their number nor their shapes."""
    model, shapes = network(), list[tuple[int, ...]]()
    engine = kind(model, CLIP)
    engine.rehearse(images(2))
    model.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    seen = []
    for count in (0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS):
        engine.clipped_sum(images(count), 3)
        seen.append(shapes.copy())
        shapes.clear()
    assert all(each == [(engine.rows, *SHAPE)] * 3 for each in seen)


def test_warnings_of_training_reach_nobody(recwarn: pytest.WarningsRecorder) -> None:
    OpacusEngine(network(), CLIP).clipped_sum(images(3))
    assert not list(recwarn)
