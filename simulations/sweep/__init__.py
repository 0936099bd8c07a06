"""Runs one plan over a grid of settings: in parallel, resumable, with the privacy cost of the search."""
