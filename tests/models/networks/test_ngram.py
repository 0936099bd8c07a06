"""The n-gram model: its gradients are counts, and it predicts from them by backing off to shorter contexts."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.models import build, count_parameters
from bract.models.networks.ngram import CELLS, SCALES, BackOff, minus_score


def trained(records: torch.Tensor, classes: int, deviation: float = 0.0) -> BackOff:
    """A model whose parameters are the counts of the records, plus noise."""
    model = BackOff(records.shape[1], classes, SCALES)
    with torch.enable_grad():
        minus_score(model(records), records).sum().backward()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        gradient = model.counts.weight.grad
        assert gradient is not None
        model.counts.weight -= gradient
        model.counts.weight += deviation * torch.randn(model.counts.weight.shape, generator=random)
    return model.eval()


def counted(records: list[list[int]], order: int) -> Counter[tuple[int, ...]]:
    """How often each run of `order` + 1 tokens occurs within a record."""
    runs = [record[at : at + order + 1] for record in records for at in range(len(record) - order)]
    return Counter(tuple(run) for run in runs)


def by_hand(records: list[list[int]], context: list[int], classes: int, least: float) -> list[float]:
    """The probabilities of the next token, from the shortest context to the longest, without noise."""
    found = [1 / classes] * classes
    for order in range(min(len(SCALES), len(records[0]), len(context) + 1)):
        counts, after = counted(records, order), tuple(context[len(context) - order :])
        prior = least if order else least * classes
        total = sum(counts[(*after, token)] for token in range(classes)) + prior
        found = [(counts[(*after, token)] + prior * found[token]) / total for token in range(classes)]
    return found


@settings(max_examples=30, deadline=None)
@given(
    records=st.integers(1, 6).flatmap(
        lambda steps: st.lists(st.lists(st.integers(0, 2), min_size=steps, max_size=steps), min_size=1, max_size=4)
    )
)
def test_a_gradient_is_the_weighted_counts_of_a_record(records: list[list[int]]) -> None:
    model, tokens = BackOff(len(records[0]), 3, SCALES), torch.tensor(records)
    minus_score(model(tokens), tokens).sum().backward()
    gradient = model.counts.weight.grad
    assert gradient is not None
    for order, start in zip(model.orders, model.starts, strict=True):
        counts = counted(records, order)
        for row, run in enumerate(itertools.product(range(3), repeat=order)):
            for token in range(3):
                found = -float(gradient[start + 3 * row + token])
                assert found == pytest.approx(SCALES[order] * counts[(*run, token)], abs=1e-5)


def test_predictions_are_those_of_a_back_off_model_of_the_counts() -> None:
    random = np.random.default_rng(5)
    records = random.integers(0, 3, (6, 8)).tolist()
    model = trained(torch.tensor(records), 3)
    least = min(float(each) for each in model.counts.weight.detach() if each > 0)
    found = model(torch.tensor(records[:1])).exp()[0]
    for step in range(8):
        assert found[step].tolist() == pytest.approx(by_hand(records, records[0][: step + 1], 3, least), abs=1e-5)


def test_the_probabilities_of_a_step_add_up_to_one() -> None:
    records = torch.randint(0, 9, (5, 12), generator=torch.Generator().manual_seed(1))
    for deviation in (0.0, 0.3, 100.0):
        assert torch.allclose(trained(records, 9, deviation)(records).exp().sum(-1), torch.ones(5, 12), atol=1e-4)


def test_without_a_count_all_tokens_are_as_likely() -> None:
    found = BackOff(6, 5, SCALES).eval()(torch.zeros(1, 6, dtype=torch.int64)).exp()
    assert torch.allclose(found, torch.full_like(found, 0.2))


def test_a_text_that_repeats_is_predicted() -> None:
    """Also under noise of a third of a count: each run occurs twenty times or more."""
    text = torch.arange(40).remainder(7)
    model = trained(text.repeat(20, 1), 7, 0.3)
    assert (model(text[None]).argmax(-1)[0, :-1] == text[1:]).all()


def test_predictions_do_not_depend_on_the_unit_of_the_counts() -> None:
    """The server's rate is one: counts, or shares of the records, predict the same."""
    records = torch.randint(0, 9, (5, 12), generator=torch.Generator().manual_seed(1))
    model = trained(records, 9, 0.4)
    one = model(records)
    with torch.no_grad():
        model.counts.weight /= 1024
    assert torch.allclose(one, model(records), atol=1e-3)


@torch.no_grad()
def test_the_noise_is_read_off_the_counts_below_zero() -> None:
    """30,000 halves of a bell are within 2 percent of the deviation (false alarm: below 1e-6)."""
    records = torch.randint(0, 20, (3, 30), generator=torch.Generator().manual_seed(1))
    deviation, least = (float(each) for each in trained(records, 20, 2.5)._noise())
    assert deviation == pytest.approx(2.5, rel=0.02)
    assert least == 0


@torch.no_grad()
def test_full_tables_are_not_taken_for_noise() -> None:
    """Two tokens in each of 40 records: each run of them occurs hundreds of times."""
    records = torch.randint(0, 2, (40, 200), generator=torch.Generator().manual_seed(1))
    assert float(trained(records, 2)._noise()[0]) == 0
    assert float(trained(records, 2, 0.5)._noise()[0]) < 1


@torch.no_grad()
def test_noise_alone_predicts_next_to_nothing() -> None:
    """A count is as likely to be noise as it is seldom expected."""
    model = trained(torch.zeros((1, 5), dtype=torch.int64), 9, 50.0)
    found = model(torch.randint(0, 9, (20, 5), generator=torch.Generator().manual_seed(1))).exp()
    assert float(found.max()) < 0.6


def test_a_score_leaves_the_records_last_label_out() -> None:
    model, tokens = BackOff(4, 5, SCALES), torch.tensor([[1, 2, 3, 4]])
    one, other = (minus_score(model(tokens), torch.tensor([[2, 3, 4, last]])) for last in (0, 4))
    assert torch.equal(one, other)


def test_contexts_share_rows_where_there_are_many() -> None:
    """The tables are as long for any text, so the length of the vector says nothing."""
    assert count_parameters("ngram", (100,), 80) == 80 * (1 + 80 + 80**2 + 2 * (CELLS // 80)) == 11_004_240
    model = BackOff(5, 80, SCALES)
    contexts = torch.randint(0, 80, (4000, 4), generator=torch.Generator().manual_seed(1))
    rows = model._row(contexts, 4)[:, 0]
    assert rows.min() >= 0
    assert rows.max() < CELLS // 80
    distinct = len({tuple(row) for row in contexts.tolist()})
    # as many as if each context drew its row at random
    expected = CELLS // 80 * -math.expm1(distinct * math.log1p(-80 / CELLS))
    assert len(rows.unique()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9])
def test_short_records_have_fewer_orders(steps: int) -> None:
    model = build("ngram", (steps,), 4)
    assert count_parameters("ngram", (steps,), 4) == sum(4 ** (order + 1) for order in range(min(5, steps)))
    assert model.eval()(torch.zeros(2, steps, dtype=torch.int64)).shape == (2, steps, 4)


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (1, 28, 28)])
def test_other_records_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ngram takes records of shape"):
        build("ngram", shape, 4)
