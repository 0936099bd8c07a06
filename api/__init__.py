"""Federated learning under a stated (epsilon, delta), from Python.

The names load on first use, so that `import bract.client` on a device loads no simulation, and `import bract.privacy`
no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers find these where bract is installed: in the checkout its packages lie elsewhere
    from .models.network import Network as Network  # pyright: ignore[reportMissingImports]
    from .privacy.errors import BractError as BractError  # pyright: ignore[reportMissingImports]
    from .privacy.plan.plan import Plan as Plan  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.calls import budget as budget  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.calls import load as load  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.calls import predict as predict  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.calls import simulate as simulate  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.calls import sweep as sweep  # pyright: ignore[reportMissingImports]
    from .simulations.notebook.run import Run as Run  # pyright: ignore[reportMissingImports]

__version__ = "0.7.0"

_MODULES = {
    "models.network": ("Network",),
    "privacy.errors": ("BractError",),
    "privacy.plan.plan": ("Plan",),
    "simulations.notebook.calls": ("budget", "load", "predict", "simulate", "sweep"),
    "simulations.notebook.run": ("Run",),
}
"""Each module with the names of it that `bract` offers: the imports above, for use at run time."""

__all__ = [
    "BractError",
    "Network",
    "Plan",
    "Run",
    "__version__",
    "budget",
    "load",
    "predict",
    "simulate",
    "sweep",
]


if not TYPE_CHECKING:  # so that a type checker refuses unknown names

    def __getattr__(name: str) -> object:
        """Load a name on first use (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names that bract offers, whether loaded yet or not."""
    return sorted(__all__)
