"""Secure aggregation: the pure parts of the protocol. `docs/secure-aggregation.md` tells it message by message."""
