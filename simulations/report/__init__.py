"""The HTML reports of runs, sweeps and budgets, and their plots."""
