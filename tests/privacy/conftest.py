"""Settings of the property tests: machines are shared, so no example has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared-machine", settings(deadline=None))
settings.load_profile("shared-machine")
