"""Refuses networks, before any training, because of layers that no engine can clip, or that Opacus cannot clip."""

from __future__ import annotations

from collections import defaultdict

from torch import nn
from torch.nn.utils import parametrize

from ...models import opacus_fault
from .errors import ClippingError

INSTEAD: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("_BatchNorm",), "mixes the records of a batch", "use nn.GroupNorm or nn.LayerNorm"),
)
"""Each entry: names of torch's classes, the fault of these classes and their subclasses, and what to use instead."""

NOT_FOR_OPACUS = frozenset({"MultiheadAttention", "Transformer", "EmbeddingBag", "Bilinear"})
"""Names of torch's classes whose per-example gradients Opacus does not compute."""

OLD_NORMS = ("WeightNorm", "SpectralNorm")


def check_layers(model: nn.Module) -> None:
    """Refuse a network with a layer that no engine can clip.

    Raises:
        ClippingError: a layer mixes records, or computes its weight from others.
    """
    for name, layer in model.named_modules():
        if fault := _fault(layer):
            what, instead = fault
            raise ClippingError(f"the layer {name} ({type(layer).__name__}) {what}", instead)
    if not any(p.requires_grad for p in model.parameters()):
        raise ClippingError("no parameter of the model is trained", "let some require gradients")


def _fault(layer: nn.Module) -> tuple[str, str] | None:
    """Return a layer's fault and what to use instead, or None."""
    names = {kind.__name__ for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.")}
    for classes, what, instead in INSTEAD:
        if names & set(classes):
            return what, instead
    if "_InstanceNorm" in names and getattr(layer, "track_running_stats", False):
        return "mixes records in its running statistics", "set track_running_stats to false, or use nn.GroupNorm"
    old = {type(hook).__name__ for hook in layer._forward_pre_hooks.values()}
    if parametrize.is_parametrized(layer) or old & set(OLD_NORMS):
        return "computes its weight from other parameters", "leave out weight_norm, spectral_norm and the like"
    return None


def check_sharing(model: nn.Module) -> None:
    """Refuse a network in which layers share a parameter: Opacus clips it wrongly.

    Raises:
        ClippingError: a parameter has several owners.
    """
    for names in _owners(model).values():
        if len(names) > 1:
            what = f"{' and '.join(names)} are one parameter, which Opacus clips wrongly"
            raise ClippingError(what, "set training.engine to auto")


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of every parameter, by its id. A shared parameter has several names."""
    owners = defaultdict[int, list[str]](list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)].append(name)
    return owners


def check_layers_for_opacus(model: nn.Module) -> None:
    """Refuse a network that Opacus clips wrongly without an error, or on which it fails during training.

    Raises:
        ClippingError: Opacus computes wrong gradients or norms, or none, for a layer or one of its options.
    """
    if why := opacus_fault(model):
        raise ClippingError(f"Opacus cannot train the model: {why}", "set training.engine to auto")
    for name, layer in model.named_modules():
        if fault := _opacus_fault(layer):
            what, instead = fault
            raise ClippingError(f"the layer {name} ({type(layer).__name__}) {what} under Opacus", instead)


def _opacus_fault(layer: nn.Module) -> tuple[str, str] | None:
    kind = type(layer).__name__
    names = {each.__name__ for each in type(layer).__mro__ if each.__module__.startswith("torch.nn.")}
    if names & NOT_FOR_OPACUS:
        return "has no per-example gradient", "set training.engine to auto"
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return f"with padding_mode {layer.padding_mode} is clipped by a wrong norm", "use padding_mode zeros"
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        return "with padding_idx trains the padding", "leave padding_idx out"
    if isinstance(layer, nn.Embedding) and layer.scale_grad_by_freq:
        return "with scale_grad_by_freq counts tokens over the batch", "leave scale_grad_by_freq out"
    if kind in ("DPRNN", "DPGRU", "DPLSTM") and layer.dropout:
        return "drops states within the recurrence", "set its dropout to 0, and put nn.Dropout after it"
    if getattr(layer, "inplace", False):
        return "in place fails", "leave inplace out"
    return None
