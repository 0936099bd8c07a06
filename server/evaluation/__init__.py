"""Evaluation of the model, with metrics by task."""
