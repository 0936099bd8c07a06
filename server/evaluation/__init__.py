"""How good the model is: metrics by task."""
