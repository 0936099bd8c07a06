"""Sabotages, by the room of the code that they break: each turns the test red that is named for what it breaks.

A function imports what it breaks when it is called, and no earlier. So it is the first to import it, and modules that
take names from it later get the broken ones.
"""

from . import (
    client_app,
    client_clipping,
    client_disk,
    client_secure_round,
    client_train,
    models,
    privacy_accounting,
    privacy_mechanisms,
    privacy_plan,
    privacy_secagg,
    server,
    simulations,
)
from .registry import SABOTAGES

__all__ = [
    "SABOTAGES",
    "client_app",
    "client_clipping",
    "client_disk",
    "client_secure_round",
    "client_train",
    "models",
    "privacy_accounting",
    "privacy_mechanisms",
    "privacy_plan",
    "privacy_secagg",
    "server",
    "simulations",
]
