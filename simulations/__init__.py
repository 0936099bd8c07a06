"""A federation on one machine. Everything that could weaken privacy is here; no deployment imports this package."""
