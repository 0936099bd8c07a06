"""The networks that come with bract. They depend on neither privacy nor Flower."""

from .flat import load_flat, read_flat
from .network import Network
from .objectives import Objective
from .registry import NETWORKS, build, count_parameters, find_network, objective_of
from .trial import check_network, needs_opacus, opacus_fault

__all__ = [
    "NETWORKS",
    "Network",
    "Objective",
    "build",
    "check_network",
    "count_parameters",
    "find_network",
    "load_flat",
    "needs_opacus",
    "objective_of",
    "opacus_fault",
    "read_flat",
]
