"""What a budget buys: cost, curves and a forecast of noise against signal, all from a plan."""
