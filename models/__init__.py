"""The networks that come with bract. They depend on neither privacy nor Flower."""

from .fixed import check_fixed, features_of, parts_of
from .flat import load_flat, read_flat
from .network import Network
from .objectives import Objective
from .own import NoModuleError, NoNetworkError, is_own
from .registry import NETWORKS, build, count_parameters, find_network, objective_of
from .start import StartError, keep_weights
from .trial import check_network, opacus_fault

__all__ = [
    "NETWORKS",
    "Network",
    "NoModuleError",
    "NoNetworkError",
    "Objective",
    "StartError",
    "build",
    "check_fixed",
    "check_network",
    "count_parameters",
    "features_of",
    "find_network",
    "is_own",
    "keep_weights",
    "load_flat",
    "objective_of",
    "opacus_fault",
    "parts_of",
    "read_flat",
]
