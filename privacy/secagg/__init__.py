"""Secure aggregation: the pure parts of the protocol. `docs/secure-aggregation.md` lists its messages."""
