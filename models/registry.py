"""The networks by name: those in the folder `networks`, each in a file that exports `NETWORK`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import torch
from torch import nn

from . import networks
from .network import Network, Shape
from .objectives import Objective


def _shipped() -> dict[str, Network]:
    modules = [import_module(each.name) for each in pkgutil.iter_modules(networks.__path__, f"{networks.__name__}.")]
    return {module.NETWORK.name: module.NETWORK for module in modules}


NETWORKS: dict[str, Network] = _shipped()
"""The networks that come with bract, by name."""


def find_network(name: str) -> Network:
    """Return the network `name`.

    Raises:
        KeyError: no network has that name.
    """
    return NETWORKS[name]


def objective_of(name: str, shape: Shape) -> Objective:
    """Return what the network `name` learns from records of `shape`.

    Raises:
        KeyError: no network has that name.
    """
    return find_network(name).learns(shape)


def build(name: str, shape: Shape, classes: int, seed: int | None = None) -> nn.Module:
    """Return the network `name` for records of `shape` and for `classes` classes.

    Weights have torch's default random initialization. With `seed` they are a function of the seed, and the state of
    torch's global generator does not change.

    Raises:
        KeyError: no network has that name.
        ValueError: the network does not accept records of that shape.
    """
    network = find_network(name)
    if seed is None:
        return network.build(shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network.build(shape, classes)


def count_parameters(name: str, shape: Shape, classes: int) -> int:
    """Return how many parameters the network has, without allocating them.

    Raises:
        KeyError, ValueError: as `build`.
    """
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, shape, classes).parameters())
