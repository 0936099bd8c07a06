"""What is refused before training, by name and with what to use instead."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from bract.client.clipping.engine import make_engine
from bract.client.clipping.errors import ClippingError
from bract.client.clipping.validation import check_layers, check_layers_for_opacus

LAYERS = [
    (nn.BatchNorm1d(4), "BatchNorm1d", "nn.GroupNorm"),
    (nn.BatchNorm2d(4), "BatchNorm2d", "nn.GroupNorm"),
    (nn.SyncBatchNorm(4), "SyncBatchNorm", "nn.GroupNorm"),
    (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), "InstanceNorm2d", "track_running_stats"),
    (parametrizations.weight_norm(nn.Linear(2, 2)), "ParametrizedLinear", "leave out weight_norm"),
    (parametrizations.spectral_norm(nn.Linear(2, 2)), "ParametrizedLinear", "leave out weight_norm"),
    (spectral_norm(nn.Linear(2, 2)), "Linear", "leave out weight_norm"),
]


@pytest.mark.parametrize(("layer", "name", "instead"), LAYERS)
def test_a_layer_that_no_engine_can_train_is_refused_by_name(layer: nn.Module, name: str, instead: str) -> None:
    with pytest.raises(ClippingError) as caught:
        check_layers(nn.Sequential(nn.Linear(4, 4), layer))
    what, hint = str(caught.value).split("\n")
    assert what.startswith(f"error: the layer 1 ({name}) ")
    assert hint.startswith("hint: ")
    assert instead in hint


def test_an_own_layer_may_bear_a_refused_name() -> None:
    class Bilinear(nn.Linear):
        pass

    check_layers(nn.Sequential(Bilinear(2, 2)))


def test_a_shared_parameter_is_refused_for_opacus() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    with pytest.raises(ClippingError, match=r"0\.weight and 2\.weight are one parameter"):
        make_engine(model, 1.0, engine="opacus")
    check_layers(model)


def test_a_layer_in_two_places_is_refused_for_opacus() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(ClippingError, match="are one parameter"):
        make_engine(nn.Sequential(layer, nn.ReLU(), layer), 1.0, engine="opacus")


def test_a_network_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ClippingError, match="no parameter"):
        check_layers(nn.Sequential(nn.Linear(4, 4)).requires_grad_(False))


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
        (nn.TransformerEncoderLayer(4, 2, 8), "self_attn"),
        (nn.EmbeddingBag(4, 2), "EmbeddingBag"),
        (nn.Bilinear(2, 2, 2), "Bilinear"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "circular"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="replicate"), "replicate"),
        (nn.Embedding(3, 2, padding_idx=0), "padding_idx"),
        (nn.Embedding(3, 2, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (nn.ReLU(inplace=True), "in place"),
        (nn.ELU(inplace=True), "in place"),
    ],
)
def test_what_opacus_gets_wrong_is_refused_for_it(layer: nn.Module, what: str) -> None:
    with pytest.raises(ClippingError, match=what):
        check_layers_for_opacus(nn.Sequential(layer))


@pytest.mark.parametrize("name", ["DPRNN", "DPGRU", "DPLSTM"])
def test_dropout_within_opacus_recurrence_is_refused(name: str) -> None:
    from opacus import layers

    kind = getattr(layers, name)
    with pytest.raises(ClippingError, match="drops states"):
        check_layers_for_opacus(nn.Sequential(kind(2, 3, num_layers=2, dropout=0.5)))
    check_layers_for_opacus(nn.Sequential(kind(2, 3)))


def test_plain_layers_are_not_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 2))
    check_layers(model)
    check_layers_for_opacus(model)
    assert model(torch.zeros(1, 1, 4, 4)).shape == (1, 2)
