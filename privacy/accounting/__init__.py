"""Privacy accounting: events, their privacy loss distributions and Renyi bounds, and the accountant."""
