"""A federation on one machine. All that could weaken privacy lives here, where no deployment imports it."""
