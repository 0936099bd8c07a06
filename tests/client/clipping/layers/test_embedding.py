"""nn.Embedding, with and without padding; options that look at the whole batch."""

from __future__ import annotations

import pytest
import torch
from by_autograd import check_layer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.errors import ClippingError

examples = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes, seeds = st.integers(1, 5), st.integers(0, 2**31)


@examples
@given(steps=st.lists(sizes, max_size=2), width=sizes, padding=st.sampled_from([None, 0, 2]), seed=seeds)
def test_embedding(steps: list[int], width: int, padding: int | None, seed: int) -> None:
    torch.manual_seed(seed)
    tokens = torch.randint(0, 4, (6, *steps), generator=torch.Generator().manual_seed(seed))
    tokens[0] = 1  # never nothing but padding
    check_layer(nn.Embedding(4, width, padding), tokens)


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_an_embedding_that_looks_at_the_batch_is_refused(option: dict[str, float | bool]) -> None:
    with pytest.raises(ClippingError, match=next(iter(option))):
        BookKeepingEngine(nn.Sequential(nn.Embedding(4, 2, **option)), 1.0)  # type: ignore[arg-type]
