"""Privacy loss: events, their loss distributions and Renyi bounds, and the accountant that chooses."""
