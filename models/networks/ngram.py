"""A back-off n-gram model whose parameters are counts: one noised sum over all records is the whole training.

The score of a record is the sum of one parameter for each pair of a context and the token after it, and training
makes it larger. So a record's gradient is its counts, which are clipped, summed and noised like any other gradient,
and one round of plain SGD at rate r leaves r times the mean noised counts in the parameters. Predictions turn them
into probabilities.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..network import Network
from ..objectives import NEXT_TOKEN, cross_entropy

SCALES = (0.05, 0.15, 0.3, 0.6, 1.0)
"""The weight of a count after 0, 1, 2, 3 and 4 tokens. Frequent contexts take less of the clip norm."""

SPREAD = 0.5
"""The relative variance of a likely count around what the shorter context expects."""

LEAST = 2.0
"""The least number of times that a context occurs, in standard deviations of the noise of a count."""

CELLS = 5 << 20
"""The most counts of one order. Longer contexts share rows, by their hashes."""

TINY = 1e-30
"""A variance: a count without noise is kept whole, also one that is expected to be zero."""


def _rows(order: int, classes: int) -> int:
    """Return the number of rows of an order's table: one a context, or fewer if these would be too many.

    >>> _rows(2, 80), _rows(4, 80)
    (6400, 65536)
    """
    return max(1, min(classes**order, CELLS // classes))


class BackOff(nn.Module):
    """Counts of tokens after up to 4 others: a record's score, or logits of the next tokens."""

    def __init__(self, steps: int, classes: int, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.classes, self.orders = classes, range(min(len(scales), steps))
        self.scales = scales
        sizes = [_rows(order, classes) * classes for order in self.orders]
        self.starts = [sum(sizes[:order]) for order in self.orders]
        self.counts = nn.Embedding(sum(sizes), 1)
        nn.init.zeros_(self.counts.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return scores [rows] in training mode, else log probabilities [rows, steps, classes].

        A score has the pairs within the record; its last label is in none of them.
        """
        return self._scores(tokens) if self.training else self._logits(tokens)

    def _scores(self, tokens: torch.Tensor) -> torch.Tensor:
        cells, scales = list[torch.Tensor](), list[torch.Tensor]()
        for order in self.orders:
            after = tokens[:, order:]
            row = self._row(tokens, order)[:, : after.shape[1]]
            cells.append(self.starts[order] + row * self.classes + after)
            scales.append(torch.full_like(cells[-1][0], 1, dtype=self.counts.weight.dtype) * self.scales[order])
        return (self.counts(torch.cat(cells, dim=1))[..., 0] * torch.cat(scales)).sum(1)

    def _row(self, tokens: torch.Tensor, order: int) -> torch.Tensor:
        """Return the row of each context of `order` tokens [rows, steps - order + 1], which ends at that step."""
        places = tokens.shape[1] - order + 1 if order else tokens.shape[1]
        code = torch.zeros_like(tokens[:, :places])
        for place in range(order):
            code = code * self.classes + tokens[:, place : place + places]
        rows = _rows(order, self.classes)
        return code if self.classes**order <= rows else _mixed(code).remainder(rows)

    def _logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the probabilities by the longest context, backed off to shorter ones.

        A context of total n is expected to have n p of a token that the shorter context gives probability p, with
        the variance `SPREAD` n^2 p (1 - p). The noised count moves this by the linear Bayes rule (Robbins 1983, with
        Gaussian noise). The total is a count after the shorter context. Probabilities are those of MacKay and Peto
        1995, "A hierarchical Dirichlet language model", with the weight of one deviation of the noise.
        """
        noise, least = self._noise()
        counts = self._noised(tokens, 0).clamp(min=0) + noise / self.scales[0] + least
        found = counts / counts.sum(-1, keepdim=True)
        for order in self.orders[1:]:
            deviation, shorter = noise / self.scales[order], found[:, order - 1 :]
            before = counts if order == 1 else counts[:, :-1]
            total = before.gather(-1, tokens[:, order - 1 :, None]).clamp(min=LEAST * deviation)
            expected, weight = total * shorter, deviation + least
            variance = SPREAD * total * expected * (1 - shorter)
            kept = variance / (variance + deviation**2 + TINY)
            counts = (expected + kept * (self._noised(tokens, order) - expected)).clamp(min=0)
            longer = (counts + weight * shorter) / (counts.sum(-1, keepdim=True) + weight)
            found = torch.cat([found[:, : order - 1], longer], dim=1)
        return found.log()

    def _noised(self, tokens: torch.Tensor, order: int) -> torch.Tensor:
        """Return the noised counts after each context, without their weight, [rows, steps - order + 1, classes]."""
        start, rows = self.starts[order], _rows(order, self.classes)
        table = self.counts.weight[start : start + rows * self.classes, 0].view(rows, self.classes)
        return table[self._row(tokens, order)] / self.scales[order]

    def _noise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise's standard deviation, and, if there is no noise, the least count.

        No count is negative, so what is below zero is noise, half of its distribution.
        """
        cells = self.counts.weight[:: max(1, len(self.counts.weight) >> 16), 0]
        below = cells.clamp(max=0)
        deviation = (below.square().sum() / (below < 0).sum().clamp(min=1)).sqrt()
        counts = torch.where(cells > 0, cells, torch.inf).min().nan_to_num(posinf=1.0)
        return deviation, torch.where(deviation > 0, 0.0, counts)


def _mixed(code: torch.Tensor) -> torch.Tensor:
    """Return 64-bit hashes of 64-bit numbers: SplitMix64's finalizer (Steele et al. 2014), without its last step."""
    code = code * -7046029254386353131
    code = (code ^ ((code >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    return (code ^ ((code >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685


def minus_score(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return losses [rows]: minus the scores [rows] in training, else the cross entropy of logits."""
    return -outputs if outputs.dim() == 1 else cross_entropy(outputs, labels)


def ngram(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return tables of counts of tokens after 0 to 4 others; `classes` is the vocabulary size.

    int64 [batch, steps], tokens in 0..classes-1 -> [batch, steps, classes]; 11,004,240 parameters for 80 characters.
    Train it in one round, with `server.optimizer = "sgd"` and all records (`privacy.sampling_rate = 1`).

    Raises:
        ValueError: `shape` is not [steps], or there are no steps.
    """
    return back_off("ngram", shape, classes, SCALES)


def back_off(name: str, shape: tuple[int, ...], classes: int, scales: tuple[float, ...]) -> BackOff:
    """Return the tables for tokens [steps], under the weights `scales` of their orders.

    Raises:
        ValueError: `shape` is not [steps], or there are no steps; the error calls the network `name`.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"{name} takes records of shape [steps], a token sequence, not {list(shape)}")
    return BackOff(shape[0], classes, scales)


NETWORK = Network("ngram", ngram, replace(NEXT_TOKEN, loss=minus_score))
