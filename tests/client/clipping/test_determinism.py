"""A record's gradient depends neither on its row in a batch nor on random numbers that others know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bract.client.clipping import determinism as module
from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.clip import joined_if_short
from bract.client.clipping.determinism import ROW_MULTIPLE, batch_invariant, batch_invariant_rows
from bract.client.clipping.engine import make_engine
from bract.client.clipping.errors import ClippingError
from bract.client.clipping.hooks import HookedNetwork
from bract.client.records import Records
from bract.models.networks.rnn import LastState
from bract.models.objectives import Loss, cross_entropy

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
    (lambda: nn.Sequential(nn.Linear(3, 31), nn.Tanh(), nn.Linear(31, 10)), (3,)),
    (lambda: nn.Sequential(nn.Linear(3, 200), nn.Tanh(), nn.Linear(200, 62)), (3,)),
    (lambda: nn.Sequential(LastState(nn.RNN(5, 37, batch_first=True)), nn.Linear(37, 11)), (9, 5)),
    (
        lambda: nn.Sequential(LastState(nn.RNN(5, 32, batch_first=True, nonlinearity="relu")), nn.Linear(32, 4)),
        (6, 5),
    ),
    (lambda: nn.Sequential(LastState(nn.RNN(2, 70, 2, batch_first=True)), nn.Linear(70, 3)), (4, 2)),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(35, 21)), (7, 5)),
]
CASES = [(*network, squares) for network in NETWORKS] + [(*network, cross_entropy) for network in HEADS]


@pytest.mark.parametrize("rows", [32, 64])
@pytest.mark.parametrize(("build", "shape", "loss"), CASES)
def test_equal_records_have_equal_gradients_in_every_row(
    build: Callable[[], nn.Module], shape: tuple[int, ...], loss: Loss, rows: int
) -> None:
    """To the last bit: norms, and the sum in which one record alone has a factor."""
    torch.manual_seed(0)
    model, record, rows = build(), torch.randn(1, *shape), batch_invariant_rows(rows)
    torch.set_num_threads(2)
    with batch_invariant(CPU), HookedNetwork(model) as hooked:
        features, labels = record.expand(rows, *shape).contiguous(), torch.zeros(rows, dtype=torch.int64)
        layers = hooked.per_example_gradients(loss, features, labels, rows)
        for layer in [*layers, *joined_if_short(layers)]:
            norms = layer.squared_norms
            assert bool((norms == norms[0]).all())
            shares = [layer.weighted_sum(chosen) for chosen in torch.eye(rows, dtype=torch.float64)]
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


@pytest.mark.parametrize("rows", [0, -ROW_MULTIPLE, 1, 16, ROW_MULTIPLE + 1])
def test_rows_that_functions_do_not_treat_alike_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        make_engine(nn.Sequential(nn.Linear(4, 3)), 1.0, rows=rows)


@pytest.mark.parametrize(("uneven", "rows", "expected"), [(0, 32, 32), (0, 64, 64), (32, 32, 96), (32, 128, 192)])
def test_rows_are_raised_to_what_matrix_products_treat_alike(
    monkeypatch: pytest.MonkeyPatch, uneven: int, rows: int, expected: int
) -> None:
    monkeypatch.setattr(module, "_row_multiple", module._row_multiple.__wrapped__)
    monkeypatch.setattr(module, "_treats_rows_alike", lambda count: not uneven or count % (3 * uneven) == 0)
    seen, model = set[int](), nn.Sequential(nn.Linear(4, 3))
    engine, records = (
        make_engine(model, 1.0, rows=rows),
        Records(torch.randn(2, 4), torch.zeros(2, dtype=torch.int64)),
    )
    engine.clipped_sum(records)
    model.register_forward_pre_hook(lambda _, inputs: seen.add(len(inputs[0])))
    engine.clipped_sum(records)
    assert seen == {expected}


def test_a_machine_that_treats_no_rows_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_row_multiple", module._row_multiple.__wrapped__)
    monkeypatch.setattr(module, "_treats_rows_alike", lambda count: False)
    with pytest.raises(ClippingError, match="equal rows alike"):
        make_engine(nn.Sequential(nn.Linear(4, 3)), 1.0)


def test_only_small_products_of_numpy_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones are never used, and may be shared out among threads."""
    dot, seen = np.dot, list[int]()

    def uneven(rows: np.ndarray, factor: np.ndarray) -> np.ndarray:
        seen.append(rows.size * factor.shape[1])
        product = dot(rows, factor)
        product[-1] *= 1 + 2.0**-20
        return product

    assert module._treats_rows_alike(ROW_MULTIPLE * 3)
    monkeypatch.setattr(module.np, "dot", uneven)
    assert not module._treats_rows_alike(ROW_MULTIPLE * 3)
    assert 0 < max(seen) <= module.SMALL_PRODUCT
