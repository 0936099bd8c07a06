"""Sums of gradients over the parts of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bract.client.clipping.accumulate import BATCHES, Accumulator, Parameters

SHAPES = [(2, 3), (3,), (1, 4)]
Plan = list[list[tuple[list[int], bool]]]
"""Chunks of parts: which parameters they are of, and whether they are in float64."""


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]


def part_of(run: Parameters, generator: torch.Generator, exact: bool) -> torch.Tensor:
    """JoinedGradients numbers, whose sums are exact; one parameter's part has its shape."""
    drawn = torch.randint(-9, 10, (sum(p.numel() for p in run),), generator=generator).float()
    drawn = drawn.double() if exact else drawn
    return drawn.view(run[0].shape) if len(run) == 1 else drawn


runs = st.sampled_from([[0], [1], [2], [0, 1, 2], [1, 2], [2, 0]])
chunks = st.lists(st.tuples(runs, st.booleans()), max_size=4)


@given(st.lists(chunks, max_size=2 * BATCHES + 1), st.integers(0, 9))
def test_the_total_is_that_of_all_parts_wherever_they_lie(plan: Plan, seed: int) -> None:
    made, generator = parameters(), torch.Generator().manual_seed(seed)
    sums, expected = Accumulator(made), [np.zeros(p.numel()) for p in made]
    for chunk in plan:
        parts = []
        for places, exact in chunk:
            run = tuple(made[place] for place in places)
            parts.append((run, part_of(run, generator, exact)))
            ends = np.cumsum([made[place].numel() for place in places])
            pieces = np.split(parts[-1][1].double().flatten().numpy(), ends[:-1])
            for place, piece in zip(places, pieces, strict=True):
                expected[place] += piece
        sums.add(parts)
    assert sums.total().dtype == np.float64
    assert np.array_equal(sums.total(), np.concatenate(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_that_are_not_trained_have_no_sum(dtype: torch.dtype) -> None:
    made = [nn.Parameter(torch.zeros(2, dtype=dtype)), nn.Parameter(torch.zeros(1, dtype=dtype), requires_grad=False)]
    sums = Accumulator(made)
    sums.add([((made[0],), torch.tensor([1.0, 2.0], dtype=dtype)), ((made[1],), torch.tensor([7.0], dtype=dtype))])
    assert sums.total().tolist() == [1.0, 2.0, 0.0]
