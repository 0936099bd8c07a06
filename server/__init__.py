"""What coordinates: it offers rounds to devices, sums their updates, pays for each release, and steps the model."""
