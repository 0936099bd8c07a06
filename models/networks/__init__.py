"""The networks that come with bract. Each file exports one, as `NETWORK`; `models/registry.py` finds it there."""
