"""A device trains what is not frozen, and clips that as a loop over records does; its own file has what is frozen."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_autograd import looped_sum
from devices import (
    CLASSES,
    SHAPE,
    holds_update,
    make_message,
    make_node,
    make_offer,
    make_tiny_plan,
    node_context,
    packed_array,
    random_records,
    said_code,
)
from safetensors.torch import save_file

from bract.client import app as client_app
from bract.client import train
from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.clipping.opacus import OpacusEngine
from bract.client.records import Records
from bract.models import build, opacus_fault, start
from bract.models.start import keep_weights
from bract.privacy import Plan, PlanError
from bract.privacy.server_view import Code

SHAPES: dict[str, tuple[int, ...]] = {"cnn": (1, 18, 18), "mlp": (1, 6, 6), "lstm": (4, 6), "attention": (4, 6)}
STARTS: list[tuple[str, Any]] = [
    ("cnn", (None, (), (), 3)),
    ("cnn", (None, (), ("0.*", "3.weight", "9.weight"), 0)),
    ("cnn", (None, (), ("0.*",), 2)),
    ("mlp", (None, (), ("*.weight",), 2)),
    ("lstm", (None, (), ("1.weight",), 0)),
    ("lstm", (None, (), ("0.layer.*",), 0)),
    ("lstm", (None, (), ("*.weight_ih_l0",), 0)),
    ("attention", (None, (), (), 2)),
]


@pytest.mark.parametrize(("name", "given"), STARTS)
@pytest.mark.parametrize("clip", [0.05, 1e3])
def test_clipped_sums_are_those_of_a_loop(name: str, given: Any, clip: float) -> None:
    shape = SHAPES[name]
    model = build(name, shape, 3, 0, given)
    for key, parameter in model.named_parameters():
        if key.endswith("up.weight"):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    records = Records(torch.randn(7, *shape, generator=torch.Generator().manual_seed(2)), torch.arange(7) % 3)
    expected = looped_sum(model, records, clip)
    found = BookKeepingEngine(model, clip, rows=4).clipped_sum(records)
    assert found.shape == (sum(p.numel() for p in model.parameters()),)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
    if opacus_fault(model) is None:
        by_opacus = OpacusEngine(copy.deepcopy(model), clip).clipped_sum(records)
        assert np.linalg.norm(by_opacus - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights of the tiny network, which this process has not read."""
    monkeypatch.setattr(start, "_KEPT", {})
    path = tmp_path / "start.safetensors"
    save_file(build("tiny", SHAPE, CLASSES, seed=3).state_dict(), path)
    return path


def frozen_plan(weights: Path, **model: Any) -> Plan:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return make_tiny_plan(model={"weights_digest": digest, **model})


FROZEN = {"frozen": ["1.*"], "parameters": 21}


def test_a_device_without_the_weights_names_their_digest(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan, at = frozen_plan(weights, **FROZEN), make_node()
    with caplog.at_level(logging.WARNING, logger="bract.client"):
        reply = at.answer(make_offer(plan, array=packed_array(np.zeros(21))))
    assert said_code(reply) == Code.PLAN
    assert str(plan.model.weights_digest) in caplog.text
    assert not at.ran


def test_a_device_with_the_weights_sends_what_is_trained(weights: Path) -> None:
    plan, at = frozen_plan(weights, **FROZEN), make_node()
    assert keep_weights(weights) == plan.model.weights_digest
    assert holds_update(at.answer(make_offer(plan, array=packed_array(np.zeros(21)))))
    assert len(at.ran) == 1


def test_a_device_needs_no_file_if_nothing_is_frozen(weights: Path) -> None:
    at = make_node()
    assert holds_update(at.answer(make_offer(frozen_plan(weights), array=packed_array(np.zeros(51)))))


def test_a_wrong_number_of_trained_parameters_is_refused(weights: Path) -> None:
    plan, at = frozen_plan(weights, frozen=["1.*"], parameters=51), make_node()
    keep_weights(weights)
    assert said_code(at.answer(make_offer(plan, array=packed_array(np.zeros(51))))) == Code.PLAN


def test_a_node_reads_the_weights_of_its_settings(weights: Path, tmp_path: Path) -> None:
    records = random_records(12)
    np.savez(tmp_path / "records.npz", x=records.features.numpy(), y=records.labels.numpy())
    (tmp_path / "terms.toml").write_text('clear_updates = true\nmodels = ["tiny"]\n')
    settings = {"data": "records.npz", "state": "state", "terms": "terms.toml"}
    usual = {name: str(tmp_path / value) for name, value in settings.items()}
    offer = make_offer(frozen_plan(weights, **FROZEN), array=packed_array(np.zeros(21)))
    assert said_code(client_app.app(make_message(offer), node_context(**usual))) == Code.PLAN
    told = node_context(**usual, weights=str(weights))
    assert holds_update(client_app.app(make_message(offer), told))
    broken = node_context(**usual, weights=str(tmp_path / "terms.toml"))
    assert said_code(client_app.app(make_message(offer), broken)) == Code.PLAN


def test_adapters_count_toward_the_largest_network(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server chooses their rank, so memory for them is bounded before it is allocated."""
    monkeypatch.setattr(train, "MOST_PARAMETERS", 100)
    keep_weights(weights)
    train._check_size(make_tiny_plan())
    with pytest.raises(PlanError, match="at most 100"):
        train._check_size(frozen_plan(weights, adapters=8))
