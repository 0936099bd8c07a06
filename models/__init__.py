"""The documented networks. They know nothing of privacy or of Flower."""

from .flat import load_flat, read_flat
from .registry import MODELS, build, count_parameters

__all__ = ["MODELS", "build", "count_parameters", "load_flat", "read_flat"]
