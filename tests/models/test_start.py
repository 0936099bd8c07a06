"""A network's start: values from a file, what stays frozen, and adapters that begin by changing nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from bract.models import NETWORKS, Network, StartError, build, count_parameters, keep_weights
from bract.models.start import Adapted, Start, begin

SHAPES = {"cnn": (1, 18, 18), "cnn-large": (1, 18, 18), "mlp": (1, 6, 6), "lstm": (4, 6), "rnn": (4, 6)}
SHAPES |= {"logistic": (5,), "gru-lm": (6,), "attention": (4, 6), "cnn-1d": (16, 3), "scattering": (1, 8, 8)}


def saved(model: nn.Module, folder: Path) -> str:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "w.safetensors")
    return keep_weights(folder / "w.safetensors")


def pair() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.mark.parametrize("name", SHAPES)
def test_it_starts_from_the_file(name: str, tmp_path: Path) -> None:
    digest = saved(build(name, SHAPES[name], 3, seed=1), tmp_path)
    found = build(name, SHAPES[name], 3, seed=2, start=(digest, (), (), 0))
    expected = build(name, SHAPES[name], 3, seed=1).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state_dict().items())
    assert count_parameters(name, SHAPES[name], 3, (digest, (), (), 0)) == count_parameters(name, SHAPES[name], 3)


@pytest.mark.parametrize("name", ["cnn", "cnn-large", "mlp", "lstm", "gru-lm", "attention", "cnn-1d", "scattering"])
def test_adapters_begin_by_changing_nothing(name: str, made_for: object, tmp_path: Path) -> None:
    source, features, _ = made_for(name, SHAPES[name], 3)  # type: ignore[operator]
    digest = saved(source, tmp_path)
    start = (digest, (), (), 2)
    found = build(name, SHAPES[name], 10, seed=2, start=start)
    assert torch.allclose(found.eval()(features), source.eval()(features), atol=1e-6)
    named = dict(found.named_parameters())
    assert named
    assert all(".down." in key or ".up." in key for key in named)
    assert count_parameters(name, SHAPES[name], 10, start) == sum(p.numel() for p in named.values())


@given(st.sets(st.sampled_from(["0.weight", "0.bias", "2.weight", "2.bias"]), min_size=1, max_size=3))
def test_what_is_frozen_keeps_its_name_and_is_no_parameter(names: set[str]) -> None:
    model = pair()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = begin(model, Start(frozen=tuple(names)))
    assert {name for name, _ in found.named_parameters()} == before.keys() - names
    assert found.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in found.state_dict().items())


def test_a_frozen_recurrent_layer_computes_as_before() -> None:
    torch.manual_seed(0)
    layer, steps = nn.LSTM(3, 4, batch_first=True), torch.randn(2, 5, 3)
    model = nn.ModuleDict({"lstm": layer, "head": nn.Linear(4, 2)})
    expected = layer(steps)[0].detach()
    begin(model, Start(frozen=("lstm.*",)))
    assert torch.equal(layer(steps)[0], expected)
    assert not layer(steps)[0].requires_grad


def test_tied_weights_are_frozen_under_both_names() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight  # type: ignore[assignment]
    begin(model, Start(frozen=("a.weight",)))
    assert {name for name, _ in model.named_parameters()} == {"a.bias", "b.bias"}
    assert model["b"].weight.data_ptr() == model["a"].weight.data_ptr()


def test_adapters_leave_the_layers_inside_multi_head_attention() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    begin(model, Start(adapters=2))
    adapted = {name for name, layer in model.named_modules() if isinstance(layer, Adapted)}
    assert adapted == {"linear1", "linear2"}


def test_what_is_fresh_starts_at_random_and_is_trained(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 9))
    digest = saved(wide, tmp_path)
    found = begin(pair(), Start(digest, fresh=("2.*",), adapters=1))
    named = {name for name, _ in found.named_parameters()}
    assert named == {"0.down.weight", "0.up.weight", "2.weight", "2.bias"}
    assert torch.equal(found.state_dict()["0.base.weight"], wide[0].weight)


FAULTS = [
    (Start("0" * 64), "not here"),
    (Start(frozen=("x*",)), "matches no tensor"),
    (Start(fresh=("0.*",), frozen=("*.bias",)), "both fresh and frozen"),
    (Start(frozen=("*",)), "nothing is left to train"),
    (Start(fresh=("*",), adapters=2), "can have no adapters"),
]


@pytest.mark.parametrize(("start", "what"), FAULTS, ids=[what for _, what in FAULTS])
def test_a_start_that_does_not_fit_is_refused_with_a_hint(start: Start, what: str) -> None:
    with pytest.raises(StartError, match=what) as fault:
        begin(pair(), start)
    assert fault.value.hint


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (nn.Sequential(nn.Linear(4, 6)), "holds no tensor 2."),
        (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Linear(3, 3)), "the network lacks, 3."),
        (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 9)), r"2\.weight has shape \[9, 6\]"),
    ],
)
def test_a_file_of_another_network_is_refused_by_the_tensor(other: nn.Module, what: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=what):
        begin(pair(), Start(saved(other, tmp_path)))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}garbage"])
def test_a_file_that_is_no_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        keep_weights(tmp_path / "x.safetensors")


def test_a_value_that_is_not_finite_is_refused_by_its_tensor(tmp_path: Path) -> None:
    model = pair()
    with torch.no_grad():
        model[2].bias[1] = float("nan")
    with pytest.raises(ValueError, match=r"2\.bias"):
        saved(model, tmp_path)


def test_a_value_beyond_float32_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not finite in float32"):
        keep_weights(tmp_path / "w.safetensors")


def test_nothing_is_frozen_where_the_server_trains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("twofold", lambda shape, classes: pair(), refine=lambda model, seed: None)
    monkeypatch.setitem(NETWORKS, "twofold", network)
    with pytest.raises(StartError, match="trained on the server too"):
        build("twofold", (4,), 3, start=(None, (), ("0.*",), 0))
