"""Networks that start from the weights in a file: transfer, frozen layers, adapters.

What is frozen becomes a buffer of its layer. So `parameters()` are what is trained, and only they are clipped,
noised, masked and sent. Every machine that passes records through the network reads the frozen weights from its own
copy of the file, which is known by its digest: no server sends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn


class StartError(ValueError):
    """The start does not fit the network; `hint` says what to change."""

    def __init__(self, what: str, hint: str = "set model.weights to a file of the same network") -> None:
        super().__init__(what)
        self.hint = hint


_KEPT: dict[str, dict[str, torch.Tensor]] = {}
"""The tensors of the files that this process has read, by the files' digests."""


class Start(NamedTuple):
    """How a network starts, and what of it is trained.

    `weights` is the SHA-256 of a .safetensors file that `keep_weights` has read; without it the values do not matter,
    as for a count. Tensors whose names match a pattern of `fresh` start at random, whatever the file holds. Tensors
    that match `frozen` are not trained. With `adapters` a frozen linear or convolutional layer learns a change of
    that rank beside it, and without `frozen` all that is not fresh is frozen.

    Reference: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".
    """

    weights: str | None = None
    fresh: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    adapters: int = 0


class Adapted(nn.Module):
    """A frozen layer `base`, and beside it a trained change of low rank: `up(down(x))`, which starts at zero."""

    def __init__(self, base: nn.Module, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the sum of both, for inputs as `base` takes them."""
        return self.base(inputs) + self.up(self.down(inputs))


def keep_weights(path: Path) -> str:
    """Read a .safetensors file, whose tensors networks can then start from; return its SHA-256 in hexadecimal.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .safetensors file, or holds a value that is not finite in float32.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest not in _KEPT:
        try:
            tensors = load(content)
        except SafetensorError as fault:
            raise ValueError(f"{path} is no .safetensors file, or is damaged") from fault
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor.float()).all()):
                raise ValueError(f"{path} holds a value in {name} that is not finite in float32")
        _KEPT[digest] = tensors
    return digest


def begin(model: nn.Module, start: Start) -> nn.Module:
    """Return the network with the values of its start, what is frozen as buffers, and its adapters.

    Raises:
        StartError: the file was not read here or does not fit the network, a pattern matches no tensor, or no
            layer can have an adapter.
    """
    if start.weights is not None:
        _load(model, start)
    frozen = _frozen_names(model, start)
    _freeze(model, frozen)
    if start.adapters:
        _adapt(model, frozen, start.adapters)
    if not any(True for _ in model.parameters()):
        raise StartError("the whole network is frozen: nothing is left to train", "leave out a part of model.frozen")
    return model


_FRESH = "set model.weights to a file of the same network, or list what differs in model.fresh"


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _load(model: nn.Module, start: Start) -> None:
    """Copy the file's tensors into the network; all names and shapes must agree, except for what is fresh."""
    if start.weights not in _KEPT:
        raise StartError(
            f"the weights with digest {start.weights}, which the plan starts from, are not here",
            "give their file: on a device as the node's setting weights, elsewhere as model.weights",
        )
    given: Mapping[str, torch.Tensor] = {
        name: tensor for name, tensor in _KEPT[start.weights].items() if not _matches(name, start.fresh)
    }
    own = {name: tensor for name, tensor in model.state_dict().items() if not _matches(name, start.fresh)}
    for name in own.keys() ^ given.keys():
        which = "holds no tensor" if name in own else "holds a tensor that the network lacks,"
        raise StartError(f"the file of the weights {which} {name}", _FRESH)
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != given[name].shape:
                said = f"{list(given[name].shape)} in the file of the weights, {list(tensor.shape)} in the network"
                raise StartError(f"{name} has shape {said}", _FRESH)
            tensor.copy_(given[name])


def _frozen_names(model: nn.Module, start: Start) -> set[str]:
    """Return the names of the parameters that stay as they are, with all names of a parameter that has several."""
    owners = dict(model.named_parameters(remove_duplicate=False))
    for pattern in (*start.fresh, *start.frozen):
        if not any(fnmatchcase(name, pattern) for name in {*owners, *model.state_dict()}):
            raise StartError(
                f"the pattern {pattern} matches no tensor of the network",
                f"write names or patterns of its tensors: {_some([*owners])}",
            )
    if both := [name for name in owners if _matches(name, start.fresh) and _matches(name, start.frozen)]:
        raise StartError(f"{both[0]} is both fresh and frozen", "take it out of model.fresh, or out of model.frozen")
    patterns = start.frozen or (("*",) if start.adapters else ())
    chosen = {id(p) for name, p in owners.items() if _matches(name, patterns) and not _matches(name, start.fresh)}
    return {name for name, p in owners.items() if id(p) in chosen}


def _freeze(model: nn.Module, names: set[str]) -> None:
    for name in names:
        place, _, key = name.rpartition(".")
        layer: Any = model.get_submodule(place)
        value = layer._parameters.pop(key)
        layer.register_buffer(key, value.detach())
    for layer in model.modules():
        if isinstance(layer, nn.RNNBase):
            layer._init_flat_weights()


def _adapt(model: nn.Module, frozen: set[str], rank: int) -> None:
    """Put an adapter beside each linear or convolutional layer with a frozen weight that its parent calls."""
    found = 0
    for place, parent in list(model.named_modules()):
        if isinstance(parent, nn.MultiheadAttention):  # it uses the weights of its layers without calling them
            continue
        for key, layer in list(parent.named_children()):
            if f"{place}.{key}.weight".lstrip(".") in frozen and (parts := _change(layer, rank)):
                setattr(parent, key, Adapted(layer, *parts))
                found += 1
    if not found:
        raise StartError(
            "the network has no frozen linear or convolutional layer, so it can have no adapters",
            "leave model.adapters out, or freeze such a layer",
        )


def _change(layer: nn.Module, rank: int) -> tuple[nn.Module, nn.Module] | None:
    """Return the two layers of a change of low rank beside a layer, None beside a layer of another kind."""
    if type(layer) is nn.Linear:
        down: nn.Module = nn.Linear(layer.in_features, rank, bias=False)
        up: nn.Module = nn.Linear(rank, layer.out_features, bias=False)
    elif type(layer) in (nn.Conv1d, nn.Conv2d) and getattr(layer, "groups", 0) == 1:
        conv: Any = layer
        how = {key: getattr(conv, key) for key in ("stride", "padding", "dilation", "padding_mode")}
        down = type(conv)(conv.in_channels, rank, conv.kernel_size, bias=False, **how)
        up = type(conv)(rank, conv.out_channels, 1, bias=False)
    else:
        return None
    nn.init.zeros_(up.weight)  # pyright: ignore[reportArgumentType]
    return down, up
