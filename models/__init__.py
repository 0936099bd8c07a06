"""The networks that come with bract. They depend on neither privacy nor Flower."""

from .flat import load_flat, read_flat
from .objectives import Objective
from .registry import MODELS, OBJECTIVES, REFINES, build, count_parameters, objective_of
from .trial import check_network, needs_opacus, opacus_fault

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "REFINES",
    "Objective",
    "build",
    "check_network",
    "count_parameters",
    "load_flat",
    "needs_opacus",
    "objective_of",
    "opacus_fault",
    "read_flat",
]
