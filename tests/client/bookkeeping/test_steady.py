"""A record's share does not depend on where it stands in a batch, nor on random numbers that others know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bract.client.bookkeeping.engine import ROWS, BookKeepingEngine
from bract.client.bookkeeping.steady import GRAIN, steady
from bract.client.bookkeeping.watching import Watching
from bract.client.bookkeeping.whole import whole
from bract.client.engines import make_engine
from bract.client.records import Records
from bract.models.objectives import Loss, cross_entropy
from bract.models.rnn import LastState

CPU = torch.device("cpu")


class Steps(nn.Module):
    """A recurrent layer's states alone."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def squares(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (torch.sin(outputs.flatten(1)) * torch.linspace(0.5, 1.5, outputs[0].numel())).sum(1)


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: nn.Sequential(nn.Linear(7, 1053), nn.SiLU(), nn.Linear(1053, 3)), (7,)),
    (lambda: nn.Sequential(nn.Linear(97, 33), nn.Tanh(), nn.Linear(33, 65), nn.Softplus()), (13, 97)),
    (lambda: nn.Sequential(nn.Conv2d(2, 7, 3), nn.ELU(), nn.GroupNorm(1, 7), nn.Conv2d(7, 5, 3)), (2, 9, 9)),
    (lambda: nn.Sequential(Steps(nn.RNN(3, 37, batch_first=True)), nn.LayerNorm(37), nn.Linear(37, 3)), (5, 3)),
    (lambda: nn.Sequential(Steps(nn.GRU(3, 70, batch_first=True)), nn.GELU(), nn.Linear(70, 3)), (11, 3)),
    (lambda: nn.Sequential(Steps(nn.LSTM(3, 25, batch_first=True)), nn.Sigmoid(), nn.Linear(25, 3)), (7, 3)),
]


HEADS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: nn.Sequential(nn.Linear(7, 90), nn.Tanh(), nn.Linear(90, 13)), (7,)),
    (lambda: nn.Sequential(LastState(nn.RNN(5, 37, batch_first=True)), nn.Linear(37, 11)), (9, 5)),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(35, 21)), (7, 5)),
]


@pytest.mark.parametrize(
    ("build", "shape", "loss"),
    [(*network, squares) for network in NETWORKS] + [(*network, cross_entropy) for network in HEADS],
)
@pytest.mark.parametrize("narrow", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_equal_records_have_equal_shares_to_the_last_bit_wherever_they_stand(
    build: Callable[[], nn.Module], shape: tuple[int, ...], loss: Loss, narrow: torch.dtype | None
) -> None:
    torch.manual_seed(0)
    model, record = build(), torch.randn(1, *shape)
    torch.set_num_threads(2)
    with steady(CPU), Watching(model, narrow) as watching:
        features, labels = record.expand(ROWS, *shape).contiguous(), torch.zeros(ROWS, dtype=torch.int64)
        uses = watching.uses(loss, features, labels, ROWS)
        for use in [*uses, *whole(uses)]:
            norms = use.squared_norms()
            assert bool((norms == norms[0]).all())
            shares = [use.weighted(chosen) for chosen in torch.eye(ROWS, dtype=torch.float64)]
            for share in shares[1:]:
                assert all(torch.equal(a, b) for (_, a), (_, b) in zip(share, shares[0], strict=True))


def test_sums_are_made_on_one_thread_and_leave_the_others() -> None:
    model, seen = nn.Sequential(nn.Linear(4, 3)), list[int]()
    model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    BookKeepingEngine(model, 1.0).clipped_sum(Records(torch.randn(2, 4), torch.zeros(2, dtype=torch.int64)))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


def test_dropout_is_drawn_anew_whatever_seed_is_known() -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3))
    engine, records = BookKeepingEngine(model, 1.0), Records(torch.randn(3, 4), torch.arange(3))
    sums = []
    for _ in range(2):
        torch.manual_seed(0)
        sums.append(engine.clipped_sum(records))
        assert torch.initial_seed() == 0
    assert not np.allclose(*sums)
    model.eval()
    assert np.array_equal(engine.clipped_sum(records), engine.clipped_sum(records))


@pytest.mark.parametrize("rows", [0, -GRAIN, 1, 16, GRAIN + 1])
def test_rows_that_functions_do_not_treat_alike_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        make_engine(nn.Sequential(nn.Linear(4, 3)), 1.0, rows=rows)
