"""Weights that ship with loa, one folder per checkpoint in the public layout; data only, no code."""
