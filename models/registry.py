"""The networks by name: bract's, each in a file of the folder `networks` that exports `NETWORK`, and one's own."""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

import torch
from torch import nn

from . import networks
from .network import Network, Shape
from .objectives import Objective
from .own import find_own
from .start import Start, StartError, begin


def _shipped() -> dict[str, Network]:
    modules = [import_module(each.name) for each in pkgutil.iter_modules(networks.__path__, f"{networks.__name__}.")]
    return {module.NETWORK.name: module.NETWORK for module in modules}


NETWORKS: dict[str, Network] = _shipped()
"""The networks that come with bract, by name."""


def find_network(name: str) -> Network:
    """Return the network `name`: one of bract's, or one's own, whose module is then imported.

    Raises:
        NoNetworkError: no network has that name. It is a KeyError with a hint.
    """
    return NETWORKS[name] if name in NETWORKS else find_own(name)


def objective_of(name: str, shape: Shape) -> Objective:
    """Return what the network `name` learns from records of `shape`.

    Raises:
        NoNetworkError: no network has that name.
    """
    return find_network(name).learns(shape)


Changed = tuple[str | None, tuple[str, ...], tuple[str, ...], int] | None
"""A `Start`, or None: the network starts at random, and all of it is trained."""


def build(name: str, shape: Shape, classes: int, seed: int | None = None, start: Changed = None) -> nn.Module:
    """Return the network `name` for records of `shape` and for `classes` classes.

    Weights have torch's default random initialization. With `seed` they are a function of the seed, and the state of
    torch's global generator does not change. `start` gives weights to start from, and what stays as it is.

    Raises:
        NoNetworkError: no network has that name.
        ValueError: the network does not accept records of that shape, its function fails or returns no module, or
            its start does not fit it.
    """
    network = find_network(name)
    if seed is None:
        return _started(network, name, shape, classes, start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _started(network, name, shape, classes, start)


def _started(network: Network, name: str, shape: Shape, classes: int, start: Changed) -> nn.Module:
    model = _built(network, name, shape, classes)
    if start is None:
        return model
    if network.refine is not None and (Start(*start).frozen or Start(*start).adapters):
        raise StartError(
            f"{name} is trained on the server too, so nothing of it can be frozen", "leave frozen and adapters out"
        )
    return begin(model, Start(*start))


def _built(network: Network, name: str, shape: Shape, classes: int) -> nn.Module:
    try:
        model = network.build(shape, classes)
    except ValueError:
        raise
    except Exception as fault:
        why = f"{type(fault).__name__}: {fault}".strip().partition("\n")[0]
        raise ValueError(f"{name} cannot be built for records of shape {list(shape)}: {why}") from fault
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{name} returns {type(model).__name__}, not a torch.nn.Module")
    return model


def count_parameters(name: str, shape: Shape, classes: int, start: Changed = None) -> int:
    """Return how many trained parameters the network has, without allocating them.

    Raises:
        NoNetworkError, ValueError: as `build`.
    """
    return (_kept_count if name in NETWORKS else _count)(name, shape, classes, start)


def _count(name: str, shape: Shape, classes: int, start: Changed) -> int:
    valueless = None if start is None else Start(*start)._replace(weights=None)
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, shape, classes, start=valueless).parameters())


_kept_count = lru_cache(maxsize=256)(_count)
"""The count of a network of bract's own, which every message of a round asks for."""
