"""Continues a text, one token after another, with a model that predicts the next token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...privacy import DataError, PlanError
from ...privacy.plan.schema import UNKNOWN
from ..datasets.texts import read_text, split_text
from ..study import Study
from .run import Trained


def read_start(path: Path, plan: Study) -> np.ndarray:
    """Return the last tokens of a .txt file as one record, int64 [1, at most T], T = data.shape[0].

    Raises:
        PlanError: the plan is not one of a text, or does not hold its vocabulary.
        DataError: the file is no text, is empty, or holds a token outside the vocabulary.
    """
    vocabulary = _vocabulary(plan)
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokens = split_text(read_text(path), plan.data.tokens)[-plan.data.shape[0] :]
    if not tokens:
        raise DataError(f"{path} is empty", "write the start of a text into it")
    odd = [token for token in tokens if token not in numbers]
    if odd and UNKNOWN not in numbers:
        raise DataError(f"{path} holds {odd[0]!r}, which is not in data.vocabulary", "leave it out of the file")
    return np.array([[numbers.get(token, numbers.get(UNKNOWN, 0)) for token in tokens]], dtype=np.int64)


def continued(trained: Trained, start: np.ndarray, count: int, seed: int) -> str:
    """Return `count` further tokens as text, each drawn from the model's probabilities; equal seeds draw equally.

    `start` is int64 [1, steps]. A token that the vocabulary does not have is never drawn.

    Raises:
        PlanError: the plan does not hold its vocabulary.
    """
    vocabulary, most = _vocabulary(trained.plan), trained.plan.data.shape[0]
    barred = [number for number, token in enumerate(vocabulary) if token == UNKNOWN]
    generator, found = torch.Generator().manual_seed(seed), start
    for _ in range(count):
        logits = torch.cat(list(trained.outputs(found[:, -most:])))[0, -1].double()
        logits[barred] = float("-inf")
        drawn = int(torch.multinomial(logits.softmax(-1), 1, generator=generator))
        found = np.concatenate([found, [[drawn]]], axis=1)
    return _joined([vocabulary[number] for number in found[0, start.shape[1] :]], trained.plan.data.tokens)


def _vocabulary(plan: Study) -> tuple[str, ...]:
    if plan.data.vocabulary is None:
        what = f"the plan of this model on {plan.data.name} does not hold a vocabulary"
        raise PlanError(what, "give an .npz file with x, the numbers of the tokens; a plan of `bract new` has one")
    return plan.data.vocabulary


def _joined(tokens: list[str], kind: str | None) -> str:
    """Return tokens as text.

    >>> _joined(["no", ",", "sir", "!"], "words")
    'no, sir!'
    """
    if kind != "words":
        return "".join(tokens)
    return "".join(f" {token}" if token[0].isalnum() else token for token in tokens).lstrip()
