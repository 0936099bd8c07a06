"""What a budget buys: costs, curves, and a forecast of the noise-to-signal ratio, all from a plan."""
