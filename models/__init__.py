"""The documented networks. They know nothing of privacy or of Flower."""

from .flat import load_flat, read_flat
from .objectives import Objective
from .registry import MODELS, OBJECTIVES, REFINES, build, count_parameters, objective_of

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "REFINES",
    "Objective",
    "build",
    "count_parameters",
    "load_flat",
    "objective_of",
    "read_flat",
]
